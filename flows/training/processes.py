"""This file joins the processes of one training run, so that they act as one.

`torchrun` starts the processes, rank 0 to size - 1, and says in the environment where
they meet; torch's own `gloo` carries numbers on the CPU, `nccl` those on a GPU. All
processes make the same decisions: what could differ between machines (the clock, what
was measured, what a file holds) is found by rank 0 and shared.

A process started alone is the only rank, `ALONE`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch
import torch.distributed
from torch import Tensor

from ..errors import FlowsError

__all__ = [
    "ALONE",
    "Alone",
    "Joined",
    "Ranks",
    "joined_ranks",
    "local_rank",
    "local_size",
]

_Value = TypeVar("_Value")


class Ranks(Protocol):
    """The processes of a run, seen from one of them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """How many processes there are."""

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""

    def shared(self, make: Callable[[], _Value]) -> _Value:
        """Return what `make` gives on rank 0; it is not called on others."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A single process."""

    rank: int = 0
    size: int = 1

    def sum_(self, tensor: Tensor) -> None:
        """Leave the tensor: it is the sum."""

    def shared(self, make: Callable[[], _Value]) -> _Value:
        """Return what `make` gives."""
        return make()


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Joined:
    """One of several processes; the process group of torch is open."""

    rank: int
    size: int

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes.

        Raises:
            FlowsError: If another process has ended.
        """
        with _others():
            torch.distributed.all_reduce(tensor)

    def shared(self, make: Callable[[], _Value]) -> _Value:
        """Return what `make` gives on rank 0; it is not called on others.

        Raises:
            FlowsError: If another process has ended.
        """
        values = [make() if self.rank == 0 else None]
        with _others():
            torch.distributed.broadcast_object_list(values, src=0)
        (value,) = values
        return value  # type: ignore[return-value]


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield this process among those that `torchrun` started, or `ALONE`.

    Only rank 0 prints; the errors of another rank name it.

    Raises:
        FlowsError: If the processes cannot meet, or one of them ends.
    """
    if not torch.distributed.is_torchelastic_launched():
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _others():
        torch.distributed.init_process_group(backend)
    ranks = Joined(torch.distributed.get_rank(), torch.distributed.get_world_size())
    try:
        if ranks.rank == 0:
            yield ranks
        else:
            with _silence():
                yield ranks
    except FlowsError as error:
        if ranks.rank == 0:
            raise
        name = f"process {ranks.rank}: "
        raise type(error)(
            *(replace(p, where=name + p.where) for p in error.problems)
        ) from None
    finally:
        torch.distributed.destroy_process_group()


def local_size() -> int:
    """Return how many processes of the run share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    """Return the number of this process among those on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def _others() -> Iterator[None]:
    """Turn the end of another process into an error in one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise FlowsError.at(
            "torchrun",
            "another process of this run has ended or cannot be reached",
            "all processes until the end",
            str(error).split("\n", 1)[0][:120],
        ) from None


@contextmanager
def _silence() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        yield
