"""Markdown of what speed.py measured."""

from __future__ import annotations

from collections.abc import Sequence

from cells import markdown


def cpu_lines(found: Sequence[dict]) -> list[str]:
    """A table for each number of threads: steps, then the parts of ours."""
    lines = []
    for figures in found:
        unet = figures["steps"]["MONAI BasicUNet"]
        times = figures["steps"] | {f"part: {name}": time for name, time in figures["parts"].items()}
        rows = [
            [name, *(_ms(time[kind]) for kind in unet), *(f"{time[kind] / unet[kind]:.2f}" for kind in unet)]
            for name, time in times.items()
        ]
        title = f"{figures['batch']} crops of {figures['side']} pixels, threads: {figures['threads']}"
        seconds = f"{figures['preview']:.1f} s"
        preview = f"From the start of a process to its first preview of the bundled sample: {seconds}.{_when(figures)}"
        header = [title, "wall, ms", "processor, ms", "of a BasicUNet step, wall", "processor"]
        lines += [*markdown(header, rows), "", preview, ""]
    return lines


def gpu_lines(found: Sequence[dict]) -> list[str]:
    """A table for each graphics card."""
    lines = []
    for figures in found:
        plain = figures["steps"]["published recipe"]["wall"]
        rows = [
            [name, _ms(t["wall"]), f"{plain / t['wall']:.1f}", f"{t['memory']:.1f}"]
            for name, t in figures["steps"].items()
        ]
        header = [f"backbone `sd`, {figures['side']} pixels", "step, ms", "times as fast", "peak memory, GiB"]
        lines += [*markdown(header, rows), "", _when(figures).strip()]
    return lines


def work_lines(found: Sequence[dict]) -> list[str]:
    """A sentence."""
    return [
        f"Arithmetic of a step of stage 2 with `sd` at {f['side']} pixels, counted and not timed: published recipe "
        f"{f['published']:.1f} x 10^12 operations, ours {f['ours']:.1f} x 10^12 ({f['published'] / f['ours']:.1f} "
        f"times fewer), {f['encoder'] / f['ours']:.0%} of these in the frozen encoder.{_when(f)}"
        for f in found
    ]


def _when(figures: dict) -> str:
    return f" {figures['date']}, {figures['machine']}." if "date" in figures else ""


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}"
