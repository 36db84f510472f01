"""This file runs many scalar operations as few batched ones.

A `Plan` computes some slots of a DAG from given ones. Operations that are alike (same
kernel, same shapes) and ready at the same time form a group: its arguments are gathered
from the tensors of earlier groups, one kernel computes all of it, the result is a new
tensor [slot, row]. The number of torch calls depends on the depth of the DAG and on how
many kinds of operation it has, not on how many nodes.

Which kind goes next follows the agenda of dynamic batching: of the kinds that have
something ready, the one whose waiting operations have the smallest mean depth; results
that nobody else reads wait until all of their kind are ready. The same DAG serves every
purpose: for a density the random nodes are inputs, so it is shallow; for sampling, and
for the maps to and from free coordinates, `definitions` says what computes them.

Numbers that the arguments share stay one tensor row, sums are one product with a fixed
matrix (dense where that is small, sparse otherwise).

References:
    Neubig, Goldberg, Dyer, "On-the-fly operation batching in dynamic computation
    graphs" (2017), https://arxiv.org/abs/1705.07860
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Generator, Tensor

from .dag import AffineTerms, Dag
from .families import DENSITIES, Shape
from .kernels import KERNELS, RISKY, SparseRows, guarded, pick
from .support import BIJECTIONS
from .totals import density_total, linear_normal_total

__all__ = ["Definition", "InvalidDraw", "Job", "Plan"]

_SPLIT = 64
"""Groups are split by where their arguments come from if the parts have this many."""

_DENSE = 4096
"""A product with a fixed matrix of at most this many entries is always dense."""

_FEW = 32
"""Means that are linear in at most this many slots are formed with their density."""

_IN_TOTAL = (-2, -2)
"""Address of densities that exist only as part of a sum."""

_DEFERRED = (-3, -3)
"""Address of sums that are formed together with the density that reads them."""

Slots = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One operation of a plan.

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
    attribute: object = None


Definition = Job | int
"""What computes a variable: a job, or another slot that has the same value."""


class InvalidDraw(Exception):
    """A distribution that is drawn from has parameters without meaning.

    Attributes:
        tag: The job's attribute.
        row: The first row for which this is so.
        parameters: The parameters there, as batches of one.
    """

    def __init__(self, tag: object, row: int, parameters: Sequence[Tensor]) -> None:
        super().__init__(tag, row)
        self.tag: Any = tag
        self.row = row
        self.parameters = parameters


@dataclass(slots=True)
class _Run:
    """The state of one run: tensors so far, constants in the right type, randomness."""

    tensors: list[Tensor]
    constants: Sequence[Tensor]
    num_rows: int
    generator: Generator | None
    is_forgiving: bool = False
    totals: list[Tensor] = field(default_factory=list)


_Fetch = Callable[[_Run], Tensor]
_Step = Callable[[_Run], None]


@dataclass(slots=True)
class Plan:
    """Computes slots of a DAG.

    Args:
        dag: The operations.
        sources: For each tensor that is given, the slots of its rows.
        outputs: Slots of each tensor that is wanted.
        definitions: What computes variables that no source has.
        sums: Which outputs are wanted as the sum over their slots.
    """

    dag: Dag
    sources: Sequence[Slots]
    outputs: Sequence[Slots]
    definitions: Mapping[int, Definition] = field(default_factory=dict)
    sums: frozenset[int] = frozenset()
    num_groups: int = field(init=False, default=0)
    _address: dict[int, tuple[int, int]] = field(init=False, default_factory=dict)
    _heights: list[int] = field(init=False, default_factory=list)
    _steps: list[_Step] = field(init=False, default_factory=list)
    _results: list[_Fetch] = field(init=False, default_factory=list)
    _constants: list[Tensor] = field(init=False, default_factory=list)
    _known: dict[Hashable, int] = field(init=False, default_factory=dict)
    _converted: dict[tuple[torch.dtype, str], list[Tensor]] = field(
        init=False, default_factory=dict
    )
    _in_branch: set[int] = field(init=False, default_factory=set)
    _finite: dict[int, bool] = field(init=False, default_factory=dict)
    _summed: frozenset[int] = field(init=False, default=frozenset())
    _means: frozenset[int] = field(init=False, default=frozenset())
    _deferred: dict[int, AffineTerms] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for number, slots in enumerate(self.sources):
            self._heights.append(len(slots))
            for row, slot in enumerate(slots):
                self._address[slot] = (number, row)
        jobs = self._needed_jobs()
        self._mark_branches(jobs)
        self._summed = self._only_summed(jobs)
        self._means = self._only_means(jobs)
        groups = _agenda(jobs, self._address)
        self.num_groups = len(groups)
        for group in groups:
            self._add_group(group)
        for number, slots in enumerate(self.outputs):
            resolved = tuple(self._resolved(slot) for slot in slots)
            self._results.append(
                self._sum(resolved) if number in self.sums else self._rows(resolved)
            )

    def run(
        self,
        sources: Sequence[Tensor],
        *,
        num_rows: int,
        like: Tensor,
        generator: Generator | None = None,
        forgiving: bool = False,
    ) -> list[Tensor]:
        """Return the outputs, each [slot, row] (or [row] for a sum).

        Args:
            sources: The given tensors [slot, row]; one row stands for all.
            num_rows: Number of rows of draws and results.
            like: A tensor of the type and device of the results.
            generator: Source of randomness, for plans that draw.
            forgiving: Whether a draw from a distribution that is none is nan.

        Raises:
            InvalidDraw: If a distribution that is drawn from is none, or is none in
                every row.
        """
        key = (like.dtype, str(like.device))
        constants = self._converted.get(key)
        if constants is None:
            constants = self._converted[key] = [
                constant.to(like.device)
                if constant.dtype == torch.long
                else constant.to(like.device, like.dtype)
                for constant in self._constants
            ]
        state = _Run(list(sources), constants, num_rows, generator, forgiving)
        for step in self._steps:
            step(state)
        return [result(state) for result in self._results]

    # -------------------------------------------------------------- collecting jobs

    def _resolved(self, slot: int) -> int:
        while slot not in self._address:
            definition = self.definitions.get(slot)
            if not isinstance(definition, int):
                break
            slot = definition
        return slot

    def _needed_jobs(self) -> list[Job]:
        """Return the jobs behind the outputs, arguments before their readers."""
        affine = self._affine_terms()
        made: dict[int, Job] = {}
        jobs: list[Job] = []
        stack: list[tuple[int, Job | None]] = [
            (slot, None) for slots in reversed(self.outputs) for slot in reversed(slots)
        ]
        started: set[int] = set()
        while stack:
            slot, ready = stack.pop()
            if ready is not None:
                jobs.append(ready)
                continue
            slot = self._resolved(slot)
            if slot in started or slot in self._address or self.dag.is_constant(slot):
                continue
            job = made.get(slot) or self._linked(self._job(slot, affine))
            for output in job.outputs:
                made[output] = job
                started.add(output)
            stack.append((slot, job))
            stack.extend(
                (part, None)
                for argument in reversed(job.arguments)
                for part in reversed(argument)
            )
        return jobs

    def _affine_terms(self) -> Mapping[int, AffineTerms]:
        """Return the flattened sums that something other than a sum reads."""
        demanded: set[int] = set()
        seen: set[int] = set()
        stack = [slot for slots in self.outputs for slot in slots]
        demanded.update(s for s in stack if self.dag[s].name == "affine")
        while stack:
            slot = stack.pop()
            if slot in seen:
                continue
            seen.add(slot)
            if slot in self._address:
                continue
            definition = self.definitions.get(slot)
            operation = self.dag[slot]
            if isinstance(definition, int):
                inputs: list[int] = [definition]
            elif definition is not None:
                inputs = [
                    part for argument in definition.arguments for part in argument
                ]
            else:
                inputs = list(operation.inputs)
            if operation.name != "affine":
                demanded.update(s for s in inputs if self.dag[s].name == "affine")
            stack.extend(inputs)
        return self.dag.affine_terms(sorted(demanded))

    def _linked(self, job: Job) -> Job:
        """Return the job with the slots that its arguments stand for."""
        arguments = tuple(tuple(map(self._resolved, part)) for part in job.arguments)
        return job if arguments == job.arguments else replace(job, arguments=arguments)

    def _job(self, slot: int, affine: Mapping[int, AffineTerms]) -> Job:
        definition = self.definitions.get(slot)
        if isinstance(definition, Job):
            return definition
        operation = self.dag[slot]
        inputs = operation.inputs
        match operation.name:
            case "affine":
                row = affine[slot]
                return Job("affine", None, (tuple(row.terms),), (slot,), row)
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

    def _only_summed(self, jobs: Sequence[Job]) -> frozenset[int]:
        """Return the slots that only the sum reads, if a sum is all that is wanted."""
        if len(self.outputs) != 1 or not self.sums:
            return frozenset()
        wanted = [self._resolved(slot) for slot in self.outputs[0]]
        read = {slot for job in jobs for part in job.arguments for slot in part}
        return frozenset(slot for slot in set(wanted) if slot not in read)

    def _only_means(self, jobs: Sequence[Job]) -> frozenset[int]:
        """Return the slots that are read once, as the mean of a summed normal."""
        count: dict[int, int] = {}
        means: set[int] = set()
        for job in jobs:
            for part in job.arguments:
                for slot in part:
                    count[slot] = count.get(slot, 0) + 1
            if job.operation == "density" and job.outputs[0] in self._summed:
                family, _ = job.key
                if family == "normal":
                    means.add(job.arguments[1][0])
        return frozenset(slot for slot in means if count[slot] == 1)

    def _mark_branches(self, jobs: Sequence[Job]) -> None:
        """Note the slots that are computed for a branch that may not be taken."""
        makers = {output: job for job in jobs for output in job.outputs}
        stack: list[int] = []
        for job in jobs:
            if job.operation == "choose":
                stack.extend(job.arguments[1] + job.arguments[2])
            elif job.operation == "select":
                stack.extend(job.arguments[1])
        while stack:
            slot = self._resolved(stack.pop())
            if slot in self._in_branch or slot not in makers:
                continue
            job = makers[slot]
            self._in_branch.update(job.outputs)
            stack.extend(part for argument in job.arguments for part in argument)

    def _is_finite(self, slot: int) -> bool:
        """Return whether finite inputs give a finite value."""
        if slot in self._address and slot not in self._finite:
            return True
        return self._finite.get(slot, False)

    # -------------------------------------------------------------- groups

    def _add_group(self, jobs: list[Job]) -> None:
        """Add the steps of one group, arguments in an order that is cheap to gather."""
        jobs.sort(key=self._place)
        parts: dict[Hashable, list[Job]] = {}
        for job in jobs:
            parts.setdefault(self._origin(job), []).append(job)
        must_split = jobs[0].operation in ("select", "order statistic")
        rest: list[Job] = []
        for part in parts.values():
            is_linear = any(
                self._address.get(slot) == _DEFERRED
                for argument in part[0].arguments
                for slot in argument
            )
            if must_split or is_linear or (len(part) >= _SPLIT and len(parts) > 1):
                self._add_step(part)
            else:
                rest.extend(part)
        if rest:
            self._add_step(rest)

    def _place(self, job: Job) -> list[tuple[int, int]]:
        return [
            self._address.get(self._resolved(argument[0]), (-1, 0))
            for argument in job.arguments
            if argument
        ]

    def _origin(self, job: Job) -> Hashable:
        """Return which tensors the arguments come from."""
        if job.operation == "affine":
            return len(job.arguments[0]) > 1
        return tuple(
            tuple(
                sorted({self._address.get(self._resolved(s), (-1, 0))[0] for s in part})
            )
            for part in job.arguments
        )

    def _add_step(self, jobs: list[Job]) -> None:
        operation = jobs[0].operation
        if operation == "affine" and self._is_deferred(jobs):
            return
        builders: dict[str, Callable[[list[Job]], _Step]] = {
            "affine": self._affine_step,
            "bundle": self._bundle_step,
            "select": self._select_step,
            "order statistic": self._sort_step,
            "density": self._density_step,
            "draw": self._draw_step,
            "constrain": self._support_step,
            "unconstrain": self._support_step,
        }
        builder = builders.get(operation, self._elementwise_step)
        self._steps.append(builder(jobs))

    def _is_deferred(self, jobs: Sequence[Job]) -> bool:
        """Return whether the densities that read these sums will form them."""
        rows = {}
        for job in jobs:
            row = job.attribute
            if job.outputs[0] not in self._means or not isinstance(row, AffineTerms):
                return False
            rows[job.outputs[0]] = AffineTerms(
                {self._resolved(slot): value for slot, value in row.terms.items()},
                row.bias,
            )
        columns = {slot for row in rows.values() for slot in row.terms}
        if (
            len(rows) < _SPLIT
            or len(columns) > _FEW
            or not all(map(self._is_finite, columns))
        ):
            return False
        self._deferred.update(rows)
        self._address.update(dict.fromkeys(rows, _DEFERRED))
        return True

    def _register(self, slots: Sequence[int], height: int | None = None) -> None:
        """Give slots the rows of the next tensor."""
        number = len(self._heights)
        self._heights.append(len(slots) if height is None else height)
        for row, slot in enumerate(slots):
            self._address[slot] = (number, row)

    def _elementwise_step(self, jobs: list[Job]) -> _Step:
        name = jobs[0].operation
        kernel = KERNELS[name]
        fetches = [
            self._argument([job.arguments[i] for job in jobs], ())
            for i in range(len(jobs[0].arguments))
        ]
        is_guarded = name in RISKY and any(
            job.outputs[0] in self._in_branch for job in jobs
        )
        for job in jobs:
            self._finite[job.outputs[0]] = (
                name not in RISKY or name == "multiply"
            ) and all(
                self._is_finite(self._resolved(slot)) or self.dag.is_constant(slot)
                for argument in job.arguments
                for slot in argument
            )
        self._register([job.outputs[0] for job in jobs])
        if is_guarded:
            return lambda run: run.tensors.append(
                guarded(kernel, [fetch(run) for fetch in fetches])
            )
        if len(fetches) == 1:
            (only,) = fetches
            return lambda run: run.tensors.append(kernel(only(run)))
        if len(fetches) == 2:
            first, second = fetches
            return lambda run: run.tensors.append(kernel(first(run), second(run)))
        return lambda run: run.tensors.append(
            kernel(*(fetch(run) for fetch in fetches))
        )

    def _affine_step(self, jobs: list[Job]) -> _Step:
        rows = [job.attribute for job in jobs]
        terms = [
            {self._resolved(slot): factor for slot, factor in row.terms.items()}
            for row in rows
            if isinstance(row, AffineTerms)
        ]
        biases = [row.bias for row in rows if isinstance(row, AffineTerms)]
        bias = self._constant(torch.tensor(biases, dtype=torch.float64)[:, None])
        has_bias = any(biases)
        for job, row in zip(jobs, terms, strict=True):
            self._finite[job.outputs[0]] = all(map(self._is_finite, row))
        slots = [job.outputs[0] for job in jobs]
        if all(len(row) == 1 for row in terms):
            step = self._scaled_step(terms, bias, has_bias=has_bias)
        else:
            step = self._product_step(terms, bias, has_bias=has_bias)
        self._register(slots)
        return step

    def _scaled_step(
        self, terms: Sequence[Mapping[int, float]], bias: int, *, has_bias: bool
    ) -> _Step:
        """Return the step for coefficient · slot + bias."""
        fetch = self._argument([(next(iter(row)),) for row in terms], ())
        factors = [next(iter(row.values())) for row in terms]
        factor = self._constant(torch.tensor(factors, dtype=torch.float64)[:, None])
        has_factor = any(value != 1.0 for value in factors)

        def step(run: _Run) -> None:
            value = fetch(run)
            if has_factor and has_bias:
                value = torch.addcmul(run.constants[bias], value, run.constants[factor])
            elif has_factor:
                value = value * run.constants[factor]
            else:
                value = value + run.constants[bias]
            run.tensors.append(value)

        return step

    def _product_step(
        self, terms: Sequence[Mapping[int, float]], bias: int, *, has_bias: bool
    ) -> _Step:
        """Return the step for bias + matrix · slots."""
        columns = sorted(
            {slot for row in terms for slot in row}, key=self._address.__getitem__
        )
        where = {slot: position for position, slot in enumerate(columns)}
        entries = [
            (number, where[slot], factor)
            for number, row in enumerate(terms)
            for slot, factor in row.items()
        ]
        fetch = self._rows(tuple(columns))
        row_of = torch.tensor([entry[0] for entry in entries])
        column_of = torch.tensor([entry[1] for entry in entries])
        values = torch.tensor([entry[2] for entry in entries], dtype=torch.float64)
        size = len(terms) * len(columns)
        is_dense = size <= max(_DENSE, 20 * len(entries))
        if is_dense and all(map(self._is_finite, columns)):
            dense = torch.zeros(len(terms), len(columns), dtype=torch.float64)
            dense[row_of, column_of] = values
            matrix = self._constant(dense)
            if has_bias:
                return lambda run: run.tensors.append(
                    torch.addmm(run.constants[bias], run.constants[matrix], fetch(run))
                )
            return lambda run: run.tensors.append(run.constants[matrix] @ fetch(run))
        shape = (len(terms), len(columns))
        made: dict[tuple[torch.dtype, torch.device], SparseRows] = {}

        def step(run: _Run) -> None:
            x = fetch(run)
            sparse = made.get((x.dtype, x.device))
            if sparse is None:
                sparse = made[x.dtype, x.device] = SparseRows(
                    *shape,
                    row_of.to(x.device),
                    column_of.to(x.device),
                    values.to(x),
                )
            value = sparse.apply(x)
            run.tensors.append(value + run.constants[bias] if has_bias else value)

        return step

    def _bundle_step(self, jobs: list[Job]) -> _Step:
        fetch = self._rows(
            tuple(self._resolved(slot) for job in jobs for slot in job.arguments[0])
        )
        size = len(jobs[0].arguments[0])
        number = len(self._heights)
        self._heights.append(size * len(jobs))
        for position, job in enumerate(jobs):
            self._address[job.outputs[0]] = (number, position * size)
        return lambda run: run.tensors.append(fetch(run))

    def _select_step(self, jobs: list[Job]) -> _Step:
        size = jobs[0].key
        assert isinstance(size, int)  # noqa: S101 - made so by `_job`
        index = self._argument([job.arguments[0] for job in jobs], ())
        bundles = [self._address[job.arguments[1][0]] for job in jobs]
        source = bundles[0][0]
        starts = torch.tensor([row for _, row in bundles])[:, None]
        rows = self._constant(starts + torch.arange(size))
        self._register([job.outputs[0] for job in jobs])
        return lambda run: run.tensors.append(
            pick(index(run), run.constants[rows], run.tensors[source])
        )

    def _sort_step(self, jobs: list[Job]) -> _Step:
        size, position = jobs[0].key
        bundles = [self._address[job.arguments[0][0]] for job in jobs]
        source = bundles[0][0]
        starts = torch.tensor([row for _, row in bundles])[:, None]
        rows = self._constant((starts + torch.arange(size)).flatten())
        self._register([job.outputs[0] for job in jobs])

        def step(run: _Run) -> None:
            items = run.tensors[source].index_select(0, run.constants[rows])
            items = items.view(-1, size, items.shape[1])
            run.tensors.append(torch.sort(items, dim=1).values[:, position])

        return step

    def _linear_normal_step(self, jobs: list[Job]) -> _Step:
        """Return the step of normals with means linear in a few slots."""
        x = self._argument([job.arguments[0] for job in jobs], ())
        scale = self._argument([job.arguments[2] for job in jobs], ())
        means = [self._deferred[job.arguments[1][0]] for job in jobs]
        columns = sorted(
            {slot for row in means for slot in row.terms},
            key=self._address.__getitem__,
        )
        where = {slot: position for position, slot in enumerate(columns)}
        dense = torch.zeros(len(means), len(columns), dtype=torch.float64)
        for number, row in enumerate(means):
            for slot, factor in row.terms.items():
                dense[number, where[slot]] = factor
        matrix = self._constant(dense)
        biases = torch.tensor([row.bias for row in means], dtype=torch.float64)
        bias = self._constant(biases[:, None])
        source = self._rows(tuple(columns))
        self._address.update((job.outputs[0], _IN_TOTAL) for job in jobs)
        return lambda run: run.totals.append(
            linear_normal_total(
                x(run),
                source(run),
                scale(run),
                run.constants[matrix],
                run.constants[bias],
            )
        )

    def _density_step(self, jobs: list[Job]) -> _Step:
        family, shapes = jobs[0].key
        if jobs[0].arguments[1:] and jobs[0].arguments[1][0] in self._deferred:
            return self._linear_normal_step(jobs)
        density = DENSITIES[family]
        fetches = [
            self._argument([job.arguments[i] for job in jobs], shape)
            for i, shape in enumerate(shapes)
        ]
        must_check = not density.says_nan and any(
            not self.dag.is_constant(slot)
            for job in jobs
            for argument in job.arguments[1:]
            for slot in argument
        )
        is_guarded = any(job.outputs[0] in self._in_branch for job in jobs)
        is_summed = all(job.outputs[0] in self._summed for job in jobs)
        log_prob = density.log_prob

        def checked(value: Tensor, *parameters: Tensor) -> Tensor:
            result = log_prob(value, *parameters)
            return torch.where(density.validity(*parameters), result, math.nan)

        kernel = checked if must_check else log_prob
        if is_summed:
            self._address.update((job.outputs[0], _IN_TOTAL) for job in jobs)
            return lambda run: run.totals.append(
                density_total(family, kernel, [fetch(run) for fetch in fetches])
            )
        self._register([job.outputs[0] for job in jobs])
        if is_guarded:
            return lambda run: run.tensors.append(
                guarded(kernel, [fetch(run) for fetch in fetches])
            )
        return lambda run: run.tensors.append(
            kernel(*(fetch(run) for fetch in fetches))
        )

    def _draw_step(self, jobs: list[Job]) -> _Step:
        """Return the step of draws; in a branch, rows without meaning become nan."""
        family, shapes, is_branch = jobs[0].key
        density = DENSITIES[family]
        fetches = [
            self._argument([job.arguments[i] for job in jobs], shape)
            for i, shape in enumerate(shapes)
        ]
        must_check = any(
            not self.dag.is_constant(slot)
            for job in jobs
            for argument in job.arguments
            for slot in argument
        )
        tags = [job.attribute for job in jobs]
        self._register([slot for job in jobs for slot in job.outputs])
        count = len(jobs)

        def step(run: _Run) -> None:
            given = [
                value.expand(count, *value.shape[1:-1], run.num_rows)
                for value in (fetch(run) for fetch in fetches)
            ]
            is_valid = density.validity(*given) if must_check else None
            if is_valid is None or bool(is_valid.all()):
                drawn = density.sample(run.generator, *given)
            elif is_branch or (run.is_forgiving and bool(is_valid.any(1).all())):
                safe = [_replaced(value, is_valid) for value in given]
                drawn = density.sample(run.generator, *safe)
                middle = [1] * (drawn.dim() - 2)
                mask = is_valid.view(count, *middle, run.num_rows)
                drawn = torch.where(mask, drawn, math.nan)
            else:
                slot, row = torch.nonzero(~is_valid)[0].tolist()
                raise InvalidDraw(
                    tags[slot],
                    row,
                    [v[slot : slot + 1, ..., row : row + 1] for v in given],
                )
            run.tensors.append(drawn.reshape(-1, run.num_rows))

        return step

    def _support_step(self, jobs: list[Job]) -> _Step:
        """Return the step of a map between free coordinates and a support."""
        support = jobs[0].key[0]
        bijection = BIJECTIONS[support]
        to_value = jobs[0].operation == "constrain"
        width = len(jobs[0].arguments[0])
        fetch = self._argument([job.arguments[0] for job in jobs], (width,))
        bounds = [
            self._argument([job.arguments[i] for job in jobs], ())
            for i in range(1, len(jobs[0].arguments))
        ]
        self._register([slot for job in jobs for slot in job.outputs[:-1]])
        self._register([job.outputs[-1] for job in jobs])

        def step(run: _Run) -> None:
            apply = bijection.to_value if to_value else bijection.to_free
            value, log_det = apply(fetch(run), *(bound(run) for bound in bounds))
            run.tensors.append(value.reshape(-1, value.shape[-1]))
            run.tensors.append(log_det)

        return step

    # -------------------------------------------------------------- gathering

    def _constant(self, value: Tensor) -> int:
        """Return the number of a constant tensor; equal ones are kept once."""
        key: Hashable = (value.shape, value.dtype, value.numpy().tobytes())
        if value.numel() > _DENSE:
            self._constants.append(value)
            return len(self._constants) - 1
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self._constants)
            self._constants.append(value)
        return known

    def _argument(self, parts: Sequence[Slots], shape: Shape) -> _Fetch:
        """Return the fetch of one argument of a group, [slot, *shape, row].

        If all members have the same argument the slot dimension is 1.
        """
        resolved = [tuple(map(self._resolved, part)) for part in parts]
        if len(set(resolved)) == 1:
            resolved = resolved[:1]
        fetch = self._rows(tuple(slot for part in resolved for slot in part))
        if not shape:
            return fetch
        count = len(resolved)

        def reshaped(run: _Run) -> Tensor:
            flat = fetch(run)
            return flat.reshape(count, *shape, flat.shape[-1])

        return reshaped

    def _rows(self, slots: Slots) -> _Fetch:
        """Return the fetch of slots as a tensor [slot, row]."""
        resolved = [self._resolved(slot) for slot in slots]
        if all(self.dag.is_constant(slot) for slot in resolved):
            values = [self.dag.number(slot) for slot in resolved]
            number = self._constant(torch.tensor(values, dtype=torch.float64)[:, None])
            return lambda run: run.constants[number]
        origins: dict[int, list[int]] = {}
        positions: dict[int, list[int]] = {}
        for position, slot in enumerate(resolved):
            tensor, row = self._address.get(slot, (-1, 0))
            origins.setdefault(tensor, []).append(row)
            positions.setdefault(tensor, []).append(position)
        if len(origins) == 1:
            ((tensor, rows),) = origins.items()
            return self._from_one(tensor, rows)
        fetches = []
        order: list[int] = []
        for tensor, rows in origins.items():
            order.extend(positions[tensor])
            if tensor < 0:
                numbers = [self.dag.number(resolved[p]) for p in positions[tensor]]
                known = self._constant(
                    torch.tensor(numbers, dtype=torch.float64)[:, None]
                )
                fetches.append(_constant_fetch(known))
            else:
                fetches.append(self._from_one(tensor, rows))
        joined = _joined(fetches)
        if order == list(range(len(order))):
            return joined
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order)] = torch.arange(len(order))
        number = self._constant(inverse)
        return lambda run: joined(run).index_select(0, run.constants[number])

    def _from_one(self, tensor: int, rows: Sequence[int]) -> _Fetch:
        """Return the fetch of rows of one tensor."""
        first, count = rows[0], len(rows)
        if list(rows) == list(range(first, first + count)):
            if count == self._heights[tensor]:
                return lambda run: run.tensors[tensor]
            return lambda run: run.tensors[tensor].narrow(0, first, count)
        number = self._constant(torch.tensor(rows))
        return lambda run: run.tensors[tensor].index_select(0, run.constants[number])

    def _sum(self, slots: Slots) -> _Fetch:
        """Return the fetch of the sum over slots, [row]."""
        by_tensor: dict[int, list[int]] = {}
        bias = 0.0
        for slot in slots:
            if self.dag.is_constant(slot):
                bias += self.dag.number(slot)
            else:
                tensor, row = self._address[slot]
                if (tensor, row) == _IN_TOTAL:
                    continue
                by_tensor.setdefault(tensor, []).append(row)
        fetches = [
            self._from_one(tensor, sorted(rows)) for tensor, rows in by_tensor.items()
        ]

        def total(run: _Run) -> Tensor:
            result: Tensor | None = None
            for part in (*run.totals, *(fetch(run).sum(0) for fetch in fetches)):
                result = part if result is None else result + part
            if result is None:
                example = run.tensors[0]
                return example.new_full((run.num_rows,), bias)
            if bias:
                result = result + bias
            return result.expand(run.num_rows)

        return total


def _replaced(value: Tensor, is_valid: Tensor) -> Tensor:
    """Return a parameter with 1 (for a matrix the identity) where it is not valid."""
    middle = [1] * (value.dim() - 2)
    mask = is_valid.view(is_valid.shape[0], *middle, is_valid.shape[1])
    if value.dim() == 4:
        size = value.shape[1]
        safe = torch.eye(size, dtype=value.dtype, device=value.device)[..., None]
    else:
        safe = torch.ones((), dtype=value.dtype, device=value.device)
    return torch.where(mask, value, safe)


def _constant_fetch(number: int) -> _Fetch:
    return lambda run: run.constants[number]


def _joined(fetches: Sequence[_Fetch]) -> _Fetch:
    def joined(run: _Run) -> Tensor:
        parts = [fetch(run) for fetch in fetches]
        wide = max(part.shape[1] for part in parts)
        return torch.cat([part.expand(part.shape[0], wide) for part in parts])

    return joined


def _agenda(jobs: Sequence[Job], given: Mapping[int, object]) -> list[list[Job]]:
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
