"""Which processor a run uses, and why: said to the user in one sentence."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from napari_semigda.engine.types import DeviceName, EngineError


def pick_device(name: DeviceName = "auto") -> torch.device:
    """The torch device for a user's choice.

    Raises
    ------
    EngineError
        When the chosen device is not on this computer; the sentence names those that are.
    """
    if name == "auto":
        return torch.device(available_devices()[0])
    if name not in available_devices():
        there = ", ".join(available_devices())
        raise EngineError(f"There is no '{name}' device on this computer. Choose one that is there: auto, {there}.")
    return torch.device(name)


def available_devices() -> list[str]:
    """Devices of this computer, fastest first; the CPU is always the last."""
    found = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def describe_device(device: torch.device) -> str:
    """A short name for the dock: ``"NVIDIA H100 (cuda)"``, ``"CPU, 2 threads"``."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda)"
    if device.type == "mps":
        return "Apple GPU (mps)"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"


def explain_device() -> str:
    """The device that is chosen where the user leaves it open, and why: ``"CPU, 2 threads: torch finds no ..."``."""
    device = pick_device()
    if device.type != "cpu":
        return f"{describe_device(device)}: the fastest here"
    if torch.backends.cuda.is_built() or torch.backends.mps.is_built():
        return f"{describe_device(device)}: torch finds no graphics card that it can use"
    return f"{describe_device(device)}: torch is installed without support for graphics cards"


def mixed_precision(device: torch.device) -> AbstractContextManager[None]:
    """bfloat16 autocast where it pays (NVIDIA cards that have it in hardware), nothing elsewhere."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
