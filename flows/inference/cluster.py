"""This file draws batches of importance sampling on a Dask cluster that already exists.

The workers need this package and nothing else: model, flow and data travel with the
batches. A batch follows from the seed and its number alone, so that the particles are
those of a run in one process. When a worker is lost, the scheduler has its batches
drawn again by others; none is counted twice, since a batch counts when it is handed
out, in order, once.
"""

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch

from ..errors import InferenceError
from ..model.layout import Layout
from ..optional import require
from .importance import BATCH_SIZE, ImportanceReport
from .parallel import BatchQueue, DrawnBatch, Sampler, draw

__all__ = ["check_cluster", "cluster_importance_sample"]

_CONNECT_SECONDS = 20
_PATIENCE_SECONDS = 30

# The plans of a model are made when first used: not by two threads of a worker at once.
_one_at_a_time = threading.Lock()


def check_cluster() -> None:
    """Raise unless Dask is installed.

    Raises:
        FlowsError: If it is not.
    """
    require("distributed", extra="cluster", where="--cluster")


def cluster_importance_sample(
    make: Callable[[], Sampler],
    layout: Layout,
    num_particles: int,
    *,
    seed: int,
    address: str,
    batch_size: int = BATCH_SIZE,
) -> Iterator[ImportanceReport]:
    """Yield the reports of `importance_sample`, batches drawn by a cluster.

    Args:
        make: Makes model and proposal; it is sent to the workers.
        layout: Of the model.
        num_particles: Number of particles in all.
        seed: Decides every draw, together with `batch_size`.
        address: Of the scheduler, `tcp://host:port`.
        batch_size: Number of particles drawn at once.

    Raises:
        InferenceError: If there is no such cluster, it has no workers, or they keep
            dying.
    """
    check_cluster()
    distributed = import_module("distributed")
    content = pickle.dumps(make)
    try:
        client = distributed.Client(
            address, timeout=_CONNECT_SECONDS, set_as_default=False
        )
    except (OSError, ValueError, TypeError) as error:
        raise _fail(address, f"no scheduler answers: {error}") from None
    with client:
        num_threads = sum(client.nthreads().values())
        if not num_threads:
            raise _fail(address, "the cluster has no workers")

        def submit(batch: int, num: int) -> _Remote:
            future = client.submit(_draw, content, seed, batch, num, pure=False)
            return _Remote(future, client, address)

        queue = BatchQueue(layout, num_particles, batch_size)
        yield from queue.reports(submit, 2 * num_threads)


@dataclass(frozen=True, slots=True)
class _Remote:
    """A batch that the cluster draws."""

    future: Any
    client: Any
    address: str

    def result(self) -> DrawnBatch:
        """Wait for the batch and return it."""
        distributed = import_module("distributed")
        while True:
            try:
                drawn: DrawnBatch = self.future.result(timeout=_PATIENCE_SECONDS)
                return drawn
            except distributed.KilledWorker:
                raise _fail(self.address, "workers keep dying over a batch") from None
            except (CancelledError, distributed.CancelledError):
                raise _fail(self.address, "the scheduler has gone") from None
            except TimeoutError:
                if not self.client.nthreads():
                    raise _fail(self.address, "no worker is left") from None


@lru_cache(maxsize=4)
def _made(content: bytes) -> Sampler:
    torch.set_num_threads(1)
    make: Callable[[], Sampler] = pickle.loads(content)
    return make()


def _draw(content: bytes, seed: int, batch: int, num: int) -> DrawnBatch:
    with _one_at_a_time:
        return draw(_made(content), seed, batch, num)


def _fail(address: str, what: str) -> InferenceError:
    return InferenceError.at(
        f"--cluster {address}", what, "a Dask scheduler with workers"
    )
