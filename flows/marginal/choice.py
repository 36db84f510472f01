"""This file chooses which discrete latents are sampled where not all can be summed out.

Those with too many values are, or with many that are cut off for all rows; then the
widest, one after the other, as long as tables are too large for rows by the thousand or
the work of a sampler shrinks. Its work is

    Σ over sampled latents of the entries that change with it · (sampled latents + 1)²,

since each is moved by itself, and the more there are the worse they mix. What changes
are the tables that read it, and those that share summed-out variables with them.

Scopes are judged by the values that draws of the prior take, link functions folded as
they will be; `tables.py` then takes the choice or refuses it.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch

from daphne_bridge.graph.expression import Value
from daphne_bridge.graph.graph import Graph

from ..model.discrete_values import kind_of
from ..model.model import Model
from .cuts import cut_beyond
from .folding import Folder
from .limits import MOST_COUNTED, MOST_VALUES
from .node_tables import NARROW
from .order import connected, elimination_order
from .specialise import Specialiser

__all__ = ["latents_to_sample"]

_DRAWS = 4096
_LARGEST = 2**12
"""Most entries of a joined table beside sampled latents, for one row."""
_MOST_ENTRIES = 2**15
"""Most entries of all tables, for one row."""
_POWER = 2
_HOPELESS = 8.0
"""A choice so many times dearer than the best ends the search."""
_SHARE = 0.1
"""Of many latents so many are taken at once."""


def latents_to_sample(model: Model) -> tuple[str, ...]:
    """Return names of discrete latents, in the order of the graph.

    Args:
        model: Whose discrete latents cannot all be summed out.
    """
    values = _drawn_values(model)
    scopes, sizes = _scopes(model.graph, values)
    endless = {
        node.name
        for node in model.graph.nodes
        if {family.support for family in node.families} == {"integers from zero"}
    }
    taken = {
        name
        for name, own in values.items()
        if len(own) > MOST_VALUES
        or (name in endless and cut_beyond(len(own)) >= MOST_COUNTED)
    }
    best, least = set(values), math.inf
    while True:
        cost, widths = _cost(scopes, sizes, taken)
        if cost < least:
            best, least = set(taken), cost
        left = [name for name in values if name not in taken]
        if not left or (least < math.inf and cost > _HOPELESS * least):
            return tuple(name for name in values if name in best)
        number = max(1, int(_SHARE * len(left))) if len(left) > 100 else 1
        left.sort(key=lambda name: -widths[name])
        taken.update(left[:number])


def _drawn_values(model: Model) -> Mapping[str, Sequence[Value]]:
    """Return the values that draws of the prior take of every discrete latent."""
    drawn = model.forgiving().sample_latents(
        _DRAWS, generator=torch.Generator().manual_seed(0)
    )
    found: dict[str, Sequence[Value]] = {}
    for variable in model.layout.latents:
        if not variable.is_discrete:
            continue
        kind, categories = kind_of(model, variable.name)
        column = drawn[:, variable.start]
        column = column[~torch.isnan(column)]
        if categories:
            found[variable.name] = categories
        elif kind == "boolean":
            found[variable.name] = (False, True)
        elif len(column):
            found[variable.name] = range(int(column.min()), int(column.max()) + 1)
        else:
            found[variable.name] = (0,)
    return found


def _scopes(
    graph: Graph, values: Mapping[str, Sequence[Value]]
) -> tuple[list[frozenset[str]], dict[str, int]]:
    """Return what each table is over, and how many values each variable has."""
    specialiser = Specialiser(values)
    few = {name: v if len(v) <= MOST_VALUES else v[:1] for name, v in values.items()}
    folder = Folder(specialiser, few)
    sizes = {name: len(found) for name, found in values.items()}
    scopes = []
    for node in graph.nodes:
        parts = [node.distribution, *([node.condition] if node.condition else [])]
        names = {name for part in parts for name in specialiser.reads(part)}
        if math.prod(sizes[name] for name in names) > NARROW:
            known = len(folder.variables)
            parts = [folder.fold(part) for part in parts]
            sizes |= {v.name: len(v.values) for v in folder.variables[known:]}
            names = {name for part in parts for name in specialiser.reads(part)}
        scopes.append(frozenset(names | ({node.name} & values.keys())))
    scopes += [frozenset((*v.scope, v.name)) for v in folder.variables]
    return scopes, sizes


def _cost(
    scopes: Sequence[frozenset[str]],
    sizes: Mapping[str, int],
    taken: Collection[str],
) -> tuple[float, Counter[str]]:
    """Return the work if some are taken, and how much of it each of the others is."""
    number = {name: n for n, name in enumerate(n for n in sizes if n not in taken)}
    names = list(number)
    kept = [sorted(number[name] for name in scope - set(taken)) for scope in scopes]
    cardinalities = [sizes[name] for name in number]
    widths: Counter[str] = Counter()
    costs = [math.prod(cardinalities[v] for v in scope) for scope in kept]
    for scope, size in zip(kept, costs, strict=True):
        widths.update({names[v]: size for v in scope})
    order = elimination_order(cardinalities, kept)
    if order.largest > _LARGEST or sum(costs) + order.total > _MOST_ENTRIES:
        return math.inf, widths
    groups = connected(kept)
    in_group = Counter[int]()
    for group, size in zip(groups, costs, strict=True):
        in_group[group] += size
    changing: dict[str, dict[int, int]] = {name: {} for name in taken}
    for names_read, group in zip(scopes, groups, strict=True):
        for name in names_read & changing.keys():
            changing[name][group] = in_group[group]
    work = sum(1 + sum(own.values()) for own in changing.values())
    return float(work * (len(taken) + 1) ** _POWER), widths
