"""This file shares a kernel's jobs out to threads, each with scratch of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads"]

Job = TypeVar("Job")
Scratch = TypeVar("Scratch")


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
