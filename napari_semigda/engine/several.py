"""Several devices that learn one model: a process for each, started and connected by Lightning Fabric.

All processes hold the same weights, go through the same steps and draw the same random numbers, so they choose the same
crops. Of a step's crops each cuts and answers its share; the answers are put together, and the loss is that of all
crops, as if one process had seen them. Gradients, each of one share's answers, are added up.

The first process alone has a clock, looks at images kept back, reports and writes. Whatever may fail, or take one
process longer than another, is done `together`: what fails in one of them fails in all, and nobody waits for ever.

Fabric is imported by whoever wants more than one device.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from napari_semigda.engine.device import pick_device
from napari_semigda.engine.trouble import ran_out_of_memory
from napari_semigda.engine.types import DeviceName, EngineError, Settings

PATIENCE = timedelta(minutes=10)
"""How long one process waits for another before the run is given up: longer than any look at images kept back."""

LOST = (
    "Another process of this training is gone, or the connection to it, so it cannot go on: start it again, "
    "with --resume from where it was."
)


class Alone:
    """One process with all the work to itself; `Several` says what each of these means to others."""

    count = 1
    """Devices, with a process each."""
    rank = 0
    """Which of them this is."""

    @property
    def first(self) -> bool:
        """Whether this is the process that reports and writes."""
        return self.rank == 0

    def device(self, name: DeviceName) -> torch.device:
        """Where this process computes."""
        return pick_device(name)

    def share(self, crops: int) -> slice:
        """Which of so many crops are this process's."""
        return slice(0, crops)

    def whole(self, share: Tensor) -> Tensor:
        """The shares of all, one after another along the first axis; only this process's own carries a gradient."""
        return share

    def add_up(self, weights: Iterable[nn.Parameter]) -> None:
        """Give every weight the sum of all processes' gradients."""

    def together(self) -> AbstractContextManager[None]:
        """What is done inside fails in all processes when it fails in one; no process asks another inside."""
        return nullcontext()

    def own_noise(self) -> AbstractContextManager[None]:
        """Random numbers of torch are this process's own inside, and the same for all again after it."""
        return nullcontext()

    def same(self, value: Any) -> Any:
        """The first process's value, for all; tensors in it are on the CPU."""
        return value

    def most(self, value: float) -> float:
        """The highest of all processes' values."""
        return value

    def told(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, for all; what fails there fails in all."""
        made = None
        with self.together():
            if self.first:
                made = make()
        return self.same(made)


ALONE = Alone()


class Several(Alone):
    """One of several processes.

    Parameters
    ----------
    fabric
        A `lightning_fabric.Fabric` that has launched its processes.
    """

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.count, self.rank = fabric.world_size, fabric.global_rank
        self.all_know = False
        """Whether the last thing that failed failed in all processes."""

    def device(self, name: DeviceName) -> torch.device:
        return self._fabric.device

    def share(self, crops: int) -> slice:
        each = crops // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def whole(self, share: Tensor) -> Tensor:
        shares = list(self._ask(self._fabric.all_gather, share.detach()))
        shares[self.rank] = share
        return torch.cat(shares)

    def add_up(self, weights: Iterable[nn.Parameter]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        summed = self._ask(self._fabric.all_reduce, flat, reduce_op="sum")
        for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    @contextmanager
    def together(self) -> Iterator[None]:
        failure = None
        try:
            yield
        except Exception as error:
            failure = error
        self._compare(failure)

    @contextmanager
    def own_noise(self) -> Iterator[None]:
        # The numbers that all draw alike go on after it as if none had been drawn inside.
        seed = int(torch.randint(2**31, (), generator=torch.default_generator.clone_state())) + self.rank
        device = self._fabric.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def same(self, value: Any) -> Any:
        return self._ask(self._fabric.broadcast, value if self.first else None)

    def most(self, value: float) -> float:
        told = torch.tensor(value, dtype=torch.float64, device=self._fabric.device)
        return float(self._ask(self._fabric.all_reduce, told, reduce_op="max"))

    def _compare(self, failure: Exception | None) -> None:
        """Raise in all processes when there is a failure in any; the same kind, so that all do the same about it."""
        self.all_know = self.most(failure is not None) > 0
        if not self.all_know:
            return
        mine = None if failure is None else (ran_out_of_memory(failure), self._in_words(failure))
        told = [self._ask(self._fabric.broadcast, mine, src=rank) for rank in range(self.count)]
        fatal = [sentence for of_memory, sentence in filter(None, told) if not of_memory]
        if failure is not None and not (fatal and ran_out_of_memory(failure)):
            raise failure
        if fatal:
            raise EngineError(fatal[0]) from failure
        raise MemoryError("the memory of another device ran out")

    def _in_words(self, failure: Exception) -> str:
        if isinstance(failure, EngineError):
            return str(failure)
        told = f"{type(failure).__name__}: {failure}"
        return f"Training stopped because process {self.rank + 1} of {self.count} failed ({told})."

    def _ask(self, collective: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Something that all processes take part in."""
        try:
            return collective(*arguments, **options)
        except RuntimeError as error:
            self.all_know = True  # they lost this one too
            raise EngineError(LOST) from error


@contextmanager
def begin(settings: Settings) -> Iterator[Alone]:
    """As many processes as the settings ask for, from here on; this one is one of them.

    On one computer the others are started here: they run the same command from its start. On several computers the
    command is started on each, or by a launcher that says which process is which (torchrun, SLURM, MPI...).
    All but the first say nothing.

    Raises
    ------
    EngineError
        When the devices are not there, Fabric is not installed, or the processes do not find each other.
    """
    if settings.devices * settings.nodes == 1:
        yield ALONE
        return
    several = Several(_launch(settings))
    if several.first:
        yield several
        return
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        try:
            yield several
        except Exception:
            if not several.all_know:
                raise


def _launch(settings: Settings) -> Any:
    kind = _kind(settings)
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments import LightningEnvironment
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        raise EngineError(
            "Training on several devices needs Lightning Fabric: pip install 'napari-semigda[several]'."
        ) from error
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        strategy = DDPStrategy(timeout=PATIENCE)
        fabric = Fabric(accelerator=kind, devices=settings.devices, num_nodes=settings.nodes, strategy=strategy)
        by_hand = isinstance(strategy.cluster_environment, LightningEnvironment)
        if settings.nodes > 1 and by_hand and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(os.environ):
            raise EngineError(
                f"Training on {settings.nodes} computers is started on each of them: set MASTER_ADDR and MASTER_PORT "
                "to those of the first, and NODE_RANK to 0, 1... on each, or use torchrun."
            )
        fabric.launch()
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(f"The processes of this training did not come together ({error}).") from error
    if kind == "cpu":  # for cards Fabric does so itself
        atexit.register(_part)
    if fabric.local_rank:
        threading.Thread(target=_leave_with, args=(os.getppid(),), name="parent", daemon=True).start()
    return fabric


def _kind(settings: Settings) -> str:
    """``"cuda"`` or ``"cpu"``, where there are enough of them."""
    kind, there = pick_device(settings.device).type, torch.cuda.device_count()
    if kind == "cuda" and settings.devices > there:
        cards = "is one graphics card" if there == 1 else f"are {there} graphics cards"
        raise EngineError(f"There {cards} on this computer, not {settings.devices}: ask for {there} devices at most.")
    if kind == "mps" or (kind == "cpu" and settings.device == "auto"):
        raise EngineError(
            "Several devices are several NVIDIA cards, and there are none that torch can use: train on one device, or "
            f"choose the device cpu for {settings.devices} processes on this processor."
        )
    return kind


def _part() -> None:
    """End the connection while Python still runs: its threads, left to the end of the process, may abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _leave_with(parent: int) -> None:
    """End this process when the one that started it is gone, in whatever it waits for."""
    while os.getppid() == parent and psutil.pid_exists(parent):  # Windows never forgets who it was
        time.sleep(1)
    os._exit(1)
