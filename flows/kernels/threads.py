"""This file shares a kernel's jobs out to threads, each with scratch of its own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["in_threads", "threads_of_each"]

_MOST_THREADS = 4
"""Of a kernel: batches have few packs of rows."""

Job = TypeVar("Job")
Scratch = TypeVar("Scratch")


def threads_of_each(processes: int = 1) -> int:
    """Threads of a kernel in each of so many processes, no more than torch's own."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    shared = available // processes
    return max(1, min(_MOST_THREADS, torch.get_num_threads(), shared))


def in_threads(
    work: Callable[[Job, Scratch], None],
    jobs: Sequence[Job],
    num_threads: int,
    idle: list[Scratch],
    make: Callable[[], Scratch],
) -> None:
    """Call ``work(job, scratch)`` for every job.

    Args:
        work: called by several threads at once.
        jobs: what it is called for.
        num_threads: threads at most.
        idle: scratch arrays that wait for use; they come back here.
        make: makes others.
    """
    threads = max(1, min(num_threads, len(jobs)))

    def run(thread: int) -> None:
        try:
            scratch = idle.pop()
        except IndexError:
            scratch = make()
        for job in jobs[thread::threads]:
            work(job, scratch)
        idle.append(scratch)

    if threads == 1:
        run(0)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(run, thread) for thread in range(threads)]:
            future.result()
