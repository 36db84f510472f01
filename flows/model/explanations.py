"""This file says in words what is wrong with the parameters or values of a row.

The density of a row with a parameter without meaning is nan. Which node, which
parameter and which link function is found here, after the fact and for that row alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from daphne_bridge.graph.expression import show
from daphne_bridge.language.families import FAMILIES

from ..errors import ModelError, Problem
from .families import DENSITIES, Shape
from .layout import Variable
from .lowered import Branch, Lowered, place
from .lowered_graph import LoweredGraph
from .schedule import InvalidDraw, Schedule

__all__ = [
    "constant_problems",
    "invalid_draw",
    "invalid_row",
    "missing_value",
    "outside_support",
    "parameter_problems",
]

_SHOWN = 80


def invalid_row(
    lowered: LoweredGraph, z: Tensor, x: Tensor, row: int, names: Sequence[str] = ()
) -> ModelError:
    """Return the error of a row whose density is not a number.

    Args:
        lowered: The graph.
        z: Columns of the latents.
        x: Columns of the data.
        row: Which row.
        names: Nodes to blame; the first one found if none are named.
    """
    if names:
        problems = [
            problem
            for name in names
            for problem in parameter_problems(lowered, name, z, x, row)
        ]
    else:
        found = (
            parameter_problems(lowered, node.name, z, x, row)
            for node in lowered.graph.nodes
        )
        problems = next(filter(None, found), [])
    unknown = Problem(lowered.graph.source, f"the density of row {row} is not a number")
    return ModelError(*(problems or [unknown]))


def parameter_problems(
    lowered: LoweredGraph, name: str, z: Tensor, x: Tensor, row: int
) -> list[Problem]:
    """Return what is wrong with the parameters of a node in one row."""
    entry = lowered.nodes[name]
    z, x = _row(z, row), _row(x, row)

    def values_of(outputs: Sequence[tuple[int, ...]]) -> list[Tensor]:
        schedule = Schedule.of(lowered.dag, lowered.slots, outputs)
        return schedule.run([z, x], num_rows=1, like=z.new_empty(0))

    taken = 0
    if entry.index is not None:
        (index,) = values_of([(entry.index,)])
        taken = int(index.flatten()[0]) if not bool(torch.isnan(index).any()) else 0
    if entry.condition is not None:
        (condition,) = values_of([(entry.condition,)])
        if not bool(condition.flatten()[0]):
            return []
    branch = entry.branches[taken]
    values = [
        value.expand(value.shape[0], 1).reshape(1, *shape, 1)
        for value, shape in zip(
            values_of(branch.parameters), branch.shapes, strict=True
        )
    ]
    node = entry.node
    label = node.label if node.label == node.name else f"{node.name} ({node.label})"
    context = _context(lowered, entry, z, x)
    return [
        _parameter_problem(lowered, entry, branch, misuse, f"{row} of {label}", context)
        for misuse in _misused(branch, values)
    ]


def invalid_draw(lowered: LoweredGraph, problem: InvalidDraw) -> ModelError:
    """Return the error of a draw from a distribution that is none."""
    entry, branch = problem.job.attribute
    found = _misused(branch, problem.parameters) or [("parameter", "", "")]
    at = f"{problem.row} of {entry.node.label}"
    said = _parameter_problem(lowered, entry, branch, found[0], at, "")
    remedy = "for all draws of the prior, a narrower one say (`daphne-flows infer` "
    expected = f"{said.expected} {remedy}leaves such draws out)".lstrip()
    return ModelError(replace(said, expected=expected))


def missing_value(
    lowered: LoweredGraph, kind: str, values: Tensor, variables: Sequence[Variable]
) -> ModelError:
    """Return the error of draws that are nan."""
    row, column = torch.nonzero(torch.isnan(values))[0].tolist()
    variable = next(v for v in variables if v.start <= column < v.stop)
    return ModelError.at(
        place(lowered.graph, "P", variable.name),
        f"the {kind} {variable.label} has no value at draw {row}",
    )


def outside_support(lowered: LoweredGraph, free: Tensor, latents: Tensor) -> ModelError:
    """Return the error of latents whose free coordinates are nan."""
    row, column = torch.nonzero(torch.isnan(free))[0].tolist()
    variable = next(
        v for v in lowered.layout.latents if v.free_start <= column < v.free_stop
    )
    values = latents[row, variable.start : variable.stop].tolist()
    branches = lowered.nodes[variable.name].branches
    return ModelError.at(
        place(lowered.graph, "P", variable.name),
        f"the value of {variable.label} at row {row} is outside the support of "
        + " or ".join(branch.family for branch in branches),
        FAMILIES[branches[0].family].support,
        ", ".join(f"{value:.6g}" for value in values[:6]),
    )


def constant_problems(lowered: LoweredGraph) -> list[Problem]:
    """Return a problem for every distribution whose known parameters are not valid."""
    dag = lowered.dag
    groups: dict[tuple[str, tuple[Shape, ...]], list[tuple[Lowered, Branch]]] = {}
    for entry in lowered.nodes.values():
        for branch in entry.branches:
            key = (branch.family, branch.shapes)
            groups.setdefault(key, []).append((entry, branch))
    problems: dict[str, Problem] = {}
    for (family, shapes), members in groups.items():
        for position, shape in enumerate(shapes):
            known = [
                (entry, branch)
                for entry, branch in members
                if all(map(dag.is_constant, branch.parameters[position]))
            ]
            if not known:
                continue
            numbers = torch.tensor(
                [[dag.number(s) for s in b.parameters[position]] for _, b in known],
                dtype=torch.float64,
            ).reshape(len(known), *shape, 1)
            parameter = DENSITIES[family].parameters[position]
            is_valid = parameter.is_valid(numbers)
            for number in torch.nonzero(~is_valid[:, 0]).flatten().tolist():
                name = known[number][0].node.name
                problem = Problem(
                    place(lowered.graph, "P", name),
                    f"the {parameter.name} of {family} is not valid",
                    parameter.expected,
                    _number(numbers[number : number + 1]),
                )
                problems.setdefault(name, problem)
        for entry, branch in members if DENSITIES[family].are_valid else ():
            if together := _constant_misuse(lowered, entry, branch):
                problems.setdefault(entry.node.name, together)
    return list(problems.values())


def _constant_misuse(
    lowered: LoweredGraph, entry: Lowered, branch: Branch
) -> Problem | None:
    """Return what is wrong with parameters that are known and wrong together."""
    dag = lowered.dag
    if not all(dag.is_constant(s) for slots in branch.parameters for s in slots):
        return None
    values = [
        torch.tensor([dag.number(s) for s in slots], dtype=torch.float64).reshape(
            1, *shape, 1
        )
        for slots, shape in zip(branch.parameters, branch.shapes, strict=True)
    ]
    for name, expected, value in _misused(branch, values):
        what = f"the {name} of {branch.family} are not valid"
        return Problem(
            place(lowered.graph, "P", entry.node.name), what, expected, value
        )
    return None


_Misuse = tuple[str, str, str]
"""A parameter's name, what it should be, what it is."""


def _misused(branch: Branch, values: Sequence[Tensor]) -> list[_Misuse]:
    """Return the parameters of one row that are not valid, with what they should be."""
    density = DENSITIES[branch.family]
    found = [
        (parameter.name, parameter.expected, _number(value))
        for parameter, value in zip(density.parameters, values, strict=True)
        if not bool(parameter.is_valid(value).all())
    ]
    if not found and density.are_valid is not None:
        expected, together = density.are_valid
        if not bool(together(*values).all()):
            names = " and ".join(parameter.name for parameter in density.parameters)
            found.append((names, expected, " and ".join(map(_number, values))))
    return found


def _parameter_problem(
    lowered: LoweredGraph,
    entry: Lowered,
    branch: Branch,
    misuse: _Misuse,
    at: str,
    context: str,
) -> Problem:
    name, expected, value = misuse
    link = show(entry.node.distribution, lowered.graph.labels, limit=_SHOWN)
    return Problem(
        place(lowered.graph, "P", entry.node.name),
        f"the {name} of {branch.family} is not valid at draw {at}",
        expected,
        f"{value} from {link}{context}",
    )


def _context(lowered: LoweredGraph, entry: Lowered, z: Tensor, x: Tensor) -> str:
    """Return what the parents of a node are in one row."""
    parents = []
    for parent in entry.node.parents[:4]:
        variable = lowered.layout.variable(parent)
        source = x if lowered.graph.node(parent).is_observed else z
        numbers = source[variable.start : variable.stop, 0].tolist()
        shown = f"{numbers[0]:.6g}" if not variable.shape else "[...]"
        parents.append(f"{variable.label} = {shown}")
    return f" with {', '.join(parents)}" if parents else ""


def _number(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{value.item():.6g}"
    if value.dim() == 4:
        rows = value[0, :, :, 0].tolist()
        text = " ".join("[" + " ".join(f"{v:.6g}" for v in row) + "]" for row in rows)
    else:
        text = " ".join(f"{v:.6g}" for v in value.flatten().tolist())
    return f"[{text}]" if len(text) < _SHOWN else f"[{text[:_SHOWN]} ...]"


def _row(columns: Tensor, row: int) -> Tensor:
    return columns[:, row : row + 1] if columns.shape[1] > 1 else columns
