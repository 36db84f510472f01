"""This file draws batches of importance sampling in several processes.

A batch follows from the seed and its number alone (`importance.batch_generator`), so
that the particles are those of a run in one process, whoever draws which batch. When a
worker dies, the batches that were not handed in are drawn again by new workers; none
is counted twice, since a batch counts when it is yielded, in order, once.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from ..errors import InferenceError, Problem
from .importance import ImportanceReport, batch_generator, importance_batch
from .particles import Particles, VariableLayout, latent_columns
from .proposal import Proposal, Target
from .weights import WeightTotals

__all__ = ["Sampler", "parallel_importance_sample"]

_BATCH_SIZE = 10_000
_MOST_DEATHS = 5


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


_sampler: Sampler | None = None


def parallel_importance_sample(
    make: Callable[[], Sampler],
    layout: VariableLayout,
    num_particles: int,
    *,
    seed: int,
    num_workers: int,
    batch_size: int = _BATCH_SIZE,
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
    columns = latent_columns(layout)
    sizes = [
        min(batch_size, num_particles - start)
        for start in range(0, num_particles, batch_size)
    ]
    totals = WeightTotals()
    done = deaths = 0
    while done < len(sizes):
        with ProcessPoolExecutor(
            num_workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(make,),
        ) as pool:
            pending: dict[int, Future[tuple[bytes, bytes]]] = {}
            try:
                while done < len(sizes):
                    # A few batches ahead, so that the memory in use is bounded.
                    for batch in range(done, min(done + 2 * num_workers, len(sizes))):
                        if batch not in pending:
                            pending[batch] = pool.submit(
                                _draw, seed, batch, sizes[batch]
                            )
                    latents, weights = pending.pop(done).result()
                    particles = Particles.from_draws(
                        _tensor(latents).reshape(sizes[done], -1),
                        _tensor(weights),
                        columns,
                    )
                    totals = totals.merge(particles.totals)
                    done += 1
                    yield ImportanceReport(particles, totals, num_particles)
            except BrokenProcessPool:
                deaths += 1
                if deaths > _MOST_DEATHS:
                    raise InferenceError(
                        Problem(
                            "workers",
                            "they keep dying",
                            f"at most {_MOST_DEATHS} deaths in a run",
                            f"{deaths}, the last one before batch {done} was done",
                        )
                    ) from None
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def _start(make: Callable[[], Sampler]) -> None:
    global _sampler
    torch.set_num_threads(1)
    _sampler = make()


def _draw(seed: int, batch: int, num: int) -> tuple[bytes, bytes]:
    if _sampler is None:
        raise RuntimeError("worker: no batch can be drawn before it has started")
    particles = importance_batch(
        _sampler.target,
        _sampler.proposal,
        _sampler.observed,
        num,
        generator=batch_generator(seed, batch),
    )
    return particles.latents.numpy().tobytes(), particles.log_weights.numpy().tobytes()


def _tensor(content: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.float64)
