"""This file decides which operations run together: jobs into groups, in order.

Operations that are alike (same kernel, same shapes) and ready at the same time form a
group. Which kind goes next follows the agenda of dynamic batching: of the kinds that
have something ready, the one whose waiting operations have the smallest mean depth;
results that nobody else reads wait until all of their kind are ready. The number of
groups so depends on the depth of the DAG and on how many kinds of operation it has, not
on how many nodes.

References:
    Neubig, Goldberg, Dyer, "On-the-fly operation batching in dynamic computation
    graphs" (2017), https://arxiv.org/abs/1705.07860
"""

from collections.abc import Container, Sequence
from typing import Any

from .jobs import Job

__all__ = ["agenda"]


def agenda(jobs: Sequence[Job], given: Container[int]) -> list[list[Job]]:
    """Return the jobs in groups, each group after what it reads."""
    makers = {
        output: number for number, job in enumerate(jobs) for output in job.outputs
    }
    readers: list[list[int]] = [[] for _ in jobs]
    missing = [0] * len(jobs)
    depth = [0] * len(jobs)
    for number, job in enumerate(jobs):
        sources = {
            makers[slot]
            for argument in job.arguments
            for slot in argument
            if slot in makers and slot not in given
        }
        missing[number] = len(sources)
        for source in sources:
            readers[source].append(number)
            depth[number] = max(depth[number], depth[source] + 1)
    keys: list[tuple[bool, str, Any]] = [
        (job.operation == "density" or not readers[number], job.operation, job.key)
        for number, job in enumerate(jobs)
    ]
    total: dict[Any, list[int]] = {}
    ready: dict[Any, list[int]] = {}
    for number, key in enumerate(keys):
        counts = total.setdefault(key, [0, 0])
        counts[0] += depth[number]
        counts[1] += 1
        if missing[number] == 0:
            ready.setdefault(key, []).append(number)
    groups: list[list[Job]] = []
    while ready:
        key = min(
            ready,
            key=lambda k: (k[0], total[k][0] / total[k][1]),
        )
        members = sorted(ready.pop(key))
        groups.append([jobs[number] for number in members])
        for number in members:
            total[key][0] -= depth[number]
            total[key][1] -= 1
            for reader in readers[number]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    ready.setdefault(keys[reader], []).append(reader)
    return groups
