"""This file finds the operations behind wanted slots, arguments before their readers.

The same DAG serves every purpose: for a density the random nodes are inputs, so it is
shallow; for sampling, and for the maps to and from free coordinates, definitions say
what computes them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .dag import AffineTerms, Dag

__all__ = ["Definition", "Job", "Slots", "Work", "find_work"]

Slots = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One operation of a schedule.

    Attributes:
        operation: Which kind of group it belongs to.
        key: What else the members of a group share, shapes above all.
        arguments: Slots of every argument, flat.
        outputs: Slots of the results.
        attribute: What distinguishes it inside the group.
    """

    operation: str
    key: Any
    arguments: tuple[Slots, ...]
    outputs: Slots
    attribute: Any = None

    @property
    def inputs(self) -> Slots:
        """Slots of all arguments."""
        return tuple(slot for argument in self.arguments for slot in argument)


Definition = Job | int
"""What computes a variable: a job, or another slot that has the same value."""


@dataclass(frozen=True, slots=True)
class Work:
    """What has to be computed; every slot in it is given, constant, or an output.

    Attributes:
        jobs: The operations, arguments before their readers.
        outputs: The wanted slots, those that only stand for another one replaced.
        in_branch: Slots that are computed for a branch that may not be taken.
        summed: Slots that only the wanted sum reads.
        means: Slots that are read once, as the mean of a summed normal.
    """

    jobs: Sequence[Job]
    outputs: Sequence[Slots]
    in_branch: frozenset[int]
    summed: frozenset[int]
    means: frozenset[int]


def find_work(
    dag: Dag,
    sources: Sequence[Slots],
    outputs: Sequence[Slots],
    definitions: Mapping[int, Definition],
    *,
    is_one_sum: bool,
) -> Work:
    """Return what has to be computed to have some slots.

    Args:
        dag: The operations.
        sources: Slots that are given.
        outputs: Slots that are wanted.
        definitions: What computes variables that no source has.
        is_one_sum: Whether the outputs are wanted as one sum alone.
    """
    finder = _Finder(dag, frozenset(s for part in sources for s in part), definitions)
    resolved = [tuple(map(finder.resolved, part)) for part in outputs]
    jobs = finder.jobs(resolved)
    summed = _only_summed(jobs, resolved[0]) if is_one_sum else frozenset()
    return Work(jobs, resolved, _in_branch(jobs), summed, _only_means(jobs, summed))


@dataclass(frozen=True, slots=True)
class _Finder:
    dag: Dag
    given: frozenset[int]
    definitions: Mapping[int, Definition]

    def resolved(self, slot: int) -> int:
        """Return the slot whose value this one stands for."""
        while slot not in self.given:
            definition = self.definitions.get(slot)
            if not isinstance(definition, int):
                break
            slot = definition
        return slot

    def jobs(self, wanted: Sequence[Slots]) -> list[Job]:
        """Return the jobs behind slots, each once and after what it reads."""
        affine = self._affine_terms(wanted)
        made: dict[int, Job] = {}
        jobs: list[Job] = []
        stack: list[tuple[int, Job | None]] = [
            (slot, None) for slots in reversed(wanted) for slot in reversed(slots)
        ]
        started: set[int] = set()
        while stack:
            slot, ready = stack.pop()
            if ready is not None:
                jobs.append(ready)
                continue
            if slot in started or slot in self.given or self.dag.is_constant(slot):
                continue
            job = made.get(slot) or self._job(slot, affine)
            for output in job.outputs:
                made[output] = job
                started.add(output)
            stack.append((slot, job))
            stack.extend((part, None) for part in reversed(job.inputs))
        return jobs

    def _affine_terms(self, wanted: Sequence[Slots]) -> Mapping[int, AffineTerms]:
        """Return the flattened sums that something other than a sum reads."""
        stack = [slot for slots in wanted for slot in slots]
        demanded = {slot for slot in stack if self.dag[slot].name == "affine"}
        seen: set[int] = set()
        while stack:
            slot = stack.pop()
            if slot in seen:
                continue
            seen.add(slot)
            if slot in self.given:
                continue
            definition = self.definitions.get(slot)
            operation = self.dag[slot]
            if isinstance(definition, int):
                inputs: Slots = (definition,)
            else:
                inputs = operation.inputs if definition is None else definition.inputs
            if operation.name != "affine":
                demanded.update(s for s in inputs if self.dag[s].name == "affine")
            stack.extend(inputs)
        return self.dag.affine_terms(sorted(demanded))

    def _job(self, slot: int, affine: Mapping[int, AffineTerms]) -> Job:
        """Return what computes a slot, its arguments resolved."""
        definition = self.definitions.get(slot)
        job = definition if isinstance(definition, Job) else self._made(slot, affine)
        arguments = tuple(tuple(map(self.resolved, part)) for part in job.arguments)
        return job if arguments == job.arguments else replace(job, arguments=arguments)

    def _made(self, slot: int, affine: Mapping[int, AffineTerms]) -> Job:
        operation = self.dag[slot]
        inputs = operation.inputs
        match operation.name:
            case "affine":
                terms: dict[int, float] = {}
                for part, factor in affine[slot].terms.items():
                    part = self.resolved(part)
                    terms[part] = terms.get(part, 0.0) + factor
                row = AffineTerms(terms, affine[slot].bias)
                return Job("affine", None, (tuple(terms),), (slot,), row)
            case "bundle":
                return Job("bundle", len(inputs), (inputs,), (slot,))
            case "select":
                size = len(self.dag[inputs[1]].inputs)
                return Job("select", size, tuple((i,) for i in inputs), (slot,))
            case "order statistic":
                size = len(self.dag[inputs[0]].inputs)
                key = (size, operation.attribute)
                return Job("order statistic", key, ((inputs[0],),), (slot,))
            case "density":
                family, shapes = operation.attribute
                parts, start = [], 0
                for shape in shapes:
                    parts.append(inputs[start : start + math.prod(shape)])
                    start += math.prod(shape)
                return Job("density", (family, shapes), tuple(parts), (slot,))
            case "variable":
                raise KeyError(f"nothing computes {operation.attribute}")
        return Job(operation.name, None, tuple((i,) for i in inputs), (slot,))


def _only_summed(jobs: Sequence[Job], wanted: Slots) -> frozenset[int]:
    read = {slot for job in jobs for slot in job.inputs}
    return frozenset(wanted) - read


def _only_means(jobs: Sequence[Job], summed: frozenset[int]) -> frozenset[int]:
    count: dict[int, int] = {}
    means: set[int] = set()
    for job in jobs:
        for slot in job.inputs:
            count[slot] = count.get(slot, 0) + 1
        if job.operation == "density" and job.outputs[0] in summed:
            family, _ = job.key
            if family == "normal":
                means.add(job.arguments[1][0])
    return frozenset(slot for slot in means if count[slot] == 1)


def _in_branch(jobs: Sequence[Job]) -> frozenset[int]:
    makers = {output: job for job in jobs for output in job.outputs}
    stack: list[int] = []
    for job in jobs:
        if job.operation == "choose":
            stack.extend(job.arguments[1] + job.arguments[2])
        elif job.operation == "select":
            stack.extend(job.arguments[1])
    found: set[int] = set()
    while stack:
        slot = stack.pop()
        if slot not in found and slot in makers:
            found.update(makers[slot].outputs)
            stack.extend(makers[slot].inputs)
    return frozenset(found)
