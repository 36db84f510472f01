"""This file draws batches of importance sampling in several processes.

A batch follows from the seed and its number alone (`importance.batch_generator`), so
that the particles are those of a run in one process, whoever draws which batch. When a
worker dies, the batches that were not handed in are drawn again by new workers; none
is counted twice, since a batch counts when it is yielded, in order, once.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..errors import InferenceError
from ..model.layout import Layout, Variable
from .columns import latent_columns
from .importance import (
    BATCH_SIZE,
    ImportanceReport,
    batch_generator,
    importance_batch,
)
from .particles import Particles
from .proposal import Proposal, Target
from .weights import WeightTotals

__all__ = [
    "BatchQueue",
    "DrawnBatch",
    "Pending",
    "Sampler",
    "draw",
    "parallel_importance_sample",
]

_MOST_DEATHS = 5

DrawnBatch = tuple[bytes, bytes]
"""Latents and log weights of a batch, float64, as they travel between processes."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """What a worker needs.

    Attributes:
        target: The model.
        proposal: What is drawn from.
        observed: The observed values.
    """

    target: Target
    proposal: Proposal
    observed: torch.Tensor


class Pending(Protocol):
    """A batch that somebody draws."""

    def result(self) -> DrawnBatch:
        """Wait for the batch and return it."""


@dataclass(slots=True)
class BatchQueue:
    """The batches of a run, handed out in order, each once.

    Attributes:
        layout: Of the model.
        num_particles: Number of particles in all.
        batch_size: Number of particles drawn at once.
        num_done: How many batches were handed out.
        totals: What their weights add up to.
    """

    layout: Layout
    num_particles: int
    batch_size: int = BATCH_SIZE
    num_done: int = 0
    totals: WeightTotals = field(default_factory=WeightTotals)

    @property
    def num_batches(self) -> int:
        """Return the number of batches in all."""
        return -(-self.num_particles // self.batch_size)

    def reports(
        self, submit: Callable[[int, int], Pending], num_ahead: int
    ) -> Iterator[ImportanceReport]:
        """Yield the reports of the batches that were not handed out yet.

        Args:
            submit: Has a batch drawn, given its number and size.
            num_ahead: How many batches may wait, so that the memory in use is bounded.
        """
        columns = latent_columns(self.layout)
        pending: dict[int, Pending] = {}
        while self.num_done < self.num_batches:
            end = min(self.num_done + num_ahead, self.num_batches)
            for batch in range(self.num_done, end):
                if batch not in pending:
                    pending[batch] = submit(batch, self._size(batch))
            drawn = pending.pop(self.num_done).result()
            particles = _particles(drawn, self._size(self.num_done), columns)
            self.totals = self.totals.merge(particles.totals)
            self.num_done += 1
            yield ImportanceReport(particles, self.totals, self.num_particles)

    def _size(self, batch: int) -> int:
        return min(self.batch_size, self.num_particles - batch * self.batch_size)


_sampler: Sampler | None = None


def parallel_importance_sample(
    make: Callable[[], Sampler],
    layout: Layout,
    num_particles: int,
    *,
    seed: int,
    num_workers: int,
    batch_size: int = BATCH_SIZE,
) -> Iterator[ImportanceReport]:
    """Yield the reports of `importance_sample`, batches drawn by several processes.

    Args:
        make: Makes model and proposal in each worker; importable from there.
        layout: Of the model.
        num_particles: Number of particles in all.
        seed: Decides every draw, together with `batch_size`.
        num_workers: Number of processes.
        batch_size: Number of particles drawn at once.

    Raises:
        InferenceError: If workers keep dying.
    """
    queue = BatchQueue(layout, num_particles, batch_size)
    deaths = 0
    while queue.num_done < queue.num_batches:
        with ProcessPoolExecutor(
            num_workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(make,),
        ) as pool:

            def submit(
                batch: int, num: int, *, pool: ProcessPoolExecutor = pool
            ) -> Future[DrawnBatch]:
                # A worker that starts must not hear the interrupt that is meant for us.
                with _interrupts_later():
                    return pool.submit(_draw, seed, batch, num)

            try:
                yield from queue.reports(submit, 2 * num_workers)
            except BrokenProcessPool:
                deaths += 1
                if deaths > _MOST_DEATHS:
                    raise InferenceError.at(
                        "workers",
                        "they keep dying",
                        f"at most {_MOST_DEATHS} deaths in a run",
                        f"{deaths}, the last one before batch {queue.num_done}"
                        " was done",
                    ) from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def draw(sampler: Sampler, seed: int, batch: int, num: int) -> DrawnBatch:
    """Return a batch as it travels between processes."""
    particles = importance_batch(
        sampler.target,
        sampler.proposal,
        sampler.observed,
        num,
        generator=batch_generator(seed, batch),
    )
    return particles.latents.numpy().tobytes(), particles.log_weights.numpy().tobytes()


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold interrupts back; processes that are started meanwhile never get any."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(make: Callable[[], Sampler]) -> None:
    global _sampler
    torch.set_num_threads(1)
    _sampler = make()


def _draw(seed: int, batch: int, num: int) -> DrawnBatch:
    if _sampler is None:
        raise RuntimeError("worker: no batch can be drawn before it has started")
    return draw(_sampler, seed, batch, num)


def _particles(drawn: DrawnBatch, num: int, columns: tuple[Variable, ...]) -> Particles:
    latents, weights = (
        torch.frombuffer(bytearray(part), dtype=torch.float64) for part in drawn
    )
    return Particles.from_draws(latents.reshape(num, -1), weights, columns)
