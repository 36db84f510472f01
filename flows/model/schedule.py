"""This file runs many scalar operations as few batched ones.

A `Schedule` computes some slots of a DAG from given ones, in passes of a file each:

    jobs        which operations are behind the wanted slots
    agenda      which of them run together, and in which order
    gathering   where the arguments of a group stand
    steps       what computes a group (`sum_steps`, `random_steps`)

One kernel computes all of a group; the result is a new tensor [slot, row]. So the
number of torch calls depends on the depth of the DAG, not on how many nodes it has.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from .agenda import agenda
from .dag import Dag
from .gathering import Fetch, Gathering, Run, Step
from .jobs import Definition, Job, Slots, find_work
from .random_steps import InvalidDraw
from .steps import add_step
from .sum_steps import is_deferred

__all__ = ["InvalidDraw", "Schedule"]

_SPLIT = 64
"""Groups are split by where their arguments come from if the parts have this many."""


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Computes slots of a DAG.

    Attributes:
        steps: What is computed, in order.
        results: How each output is fetched in the end.
        constants: Tensors that do not depend on a run.
        widths: Number of slots of each output.
        sums: Which outputs are sums over their slots.
        num_groups: Number of groups of operations.
    """

    steps: Sequence[Step]
    results: Sequence[Fetch]
    constants: Sequence[Tensor]
    widths: tuple[int, ...]
    sums: frozenset[int]
    num_groups: int
    _converted: dict[tuple[torch.dtype, str], list[Tensor]] = field(
        default_factory=dict
    )

    @classmethod
    def of(
        cls,
        dag: Dag,
        sources: Sequence[Slots],
        outputs: Sequence[Slots],
        definitions: Mapping[int, Definition] | None = None,
        sums: frozenset[int] = frozenset(),
    ) -> "Schedule":
        """Return what computes slots of a DAG.

        Args:
            dag: The operations.
            sources: For each tensor that is given, the slots of its rows.
            outputs: Slots of each tensor that is wanted.
            definitions: What computes variables that no source has.
            sums: Which outputs are wanted as the sum over their slots.

        Raises:
            KeyError: If nothing computes a variable that is needed.

        Example:
            >>> dag = Dag()
            >>> x = dag.variable("x")
            >>> schedule = Schedule.of(dag, [(x,)], [(dag.affine([(x, 2.0)], 1.0),)])
            >>> rows = torch.tensor([[0.0, 1.0, 2.0]])
            >>> schedule.run([rows], num_rows=3, like=rows)
            [tensor([[1., 3., 5.]])]
        """
        is_one_sum = len(outputs) == 1 and bool(sums)
        work = find_work(
            dag, sources, outputs, definitions or {}, is_one_sum=is_one_sum
        )
        gathering = Gathering(dag, work)
        for slots in sources:
            gathering.register(slots)
        groups = agenda(work.jobs, gathering.address)
        steps = [
            step
            for group in groups
            for part in _split(gathering, group)
            if (step := add_step(gathering, part)) is not None
        ]
        results = [
            gathering.total(slots) if number in sums else gathering.rows(slots)
            for number, slots in enumerate(work.outputs)
        ]
        widths = tuple(map(len, outputs))
        return cls(steps, results, gathering.constants, widths, sums, len(groups))

    def run(
        self,
        sources: Sequence[Tensor],
        *,
        num_rows: int,
        like: Tensor,
        generator: Generator | None = None,
        is_forgiving: bool = False,
    ) -> list[Tensor]:
        """Return the outputs, each [slot, row] (or [row] for a sum).

        Args:
            sources: The given tensors [slot, row]; one row stands for all.
            num_rows: Number of rows of draws and results.
            like: A tensor of the type and device of the results.
            generator: Source of randomness, for schedules that draw.
            is_forgiving: Whether a draw from a distribution that is none is nan.

        Raises:
            InvalidDraw: If a distribution that is drawn from is none, or is none in
                every row.
        """
        state = Run(
            list(sources), self._constants(like), num_rows, generator, is_forgiving
        )
        for step in self.steps:
            step(state)
        return [result(state) for result in self.results]

    def _constants(self, like: Tensor) -> list[Tensor]:
        """Return the constants in the type and on the device of `like`."""
        key = (like.dtype, str(like.device))
        found = self._converted.get(key)
        if found is None:
            found = self._converted[key] = [
                constant.to(like.device)
                if constant.dtype == torch.long
                else constant.to(like.device, like.dtype)
                for constant in self.constants
            ]
        return found


def _split(gathering: Gathering, group: list[Job]) -> Iterator[list[Job]]:
    """Yield a group in parts, arguments in an order that is cheap to gather."""
    group.sort(key=lambda job: _place(gathering, job))
    parts: dict[Hashable, list[Job]] = {}
    for job in group:
        parts.setdefault(_origin(gathering, job), []).append(job)
    must_split = group[0].operation in ("select", "order statistic")
    rest: list[Job] = []
    for part in list(parts.values()):
        is_large = len(part) >= _SPLIT and len(parts) > 1
        if must_split or is_large or is_deferred(gathering, part[0]):
            yield part
        else:
            rest.extend(part)
    if rest:
        yield rest


def _place(gathering: Gathering, job: Job) -> list[tuple[int, int]]:
    """Return where the arguments of a job begin."""
    return [gathering.where(argument[0]) for argument in job.arguments if argument]


def _origin(gathering: Gathering, job: Job) -> Hashable:
    """Return which tensors the arguments come from."""
    if job.operation == "affine":
        return len(job.arguments[0]) > 1
    return tuple(
        tuple(sorted({gathering.where(slot)[0] for slot in argument}))
        for argument in job.arguments
    )
