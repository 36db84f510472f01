"""This file describes columns and structure of a flow in a manifest, and reads them.

Law: `structure_from(m) == s` if `m.structure == structure_entry(s, l)`. Likewise for
the layout l, but for which variables are discrete.
"""

from dataclasses import asdict, replace
from operator import attrgetter

from daphne_bridge.graph.expression import Call, Constant
from daphne_bridge.graph.graph import Graph, Node

from ..flow.building import build_structure
from ..flow.protocol import Flow
from ..flow.structure import Structure
from ..heads.flow import HeadedFlow
from ..model.layout import Layout, Variable
from .manifest import (
    HeadsEntry,
    LayoutEntry,
    Manifest,
    StructureEntry,
    VariableEntry,
)

__all__ = [
    "layout_entry",
    "layout_from",
    "structure_entry",
    "structure_from",
]

# The first fields of both `Variable` and `VariableEntry`, in their order.
_columns = attrgetter(
    "name", "label", "shape", "start", "stop", "free_start", "free_stop"
)


def layout_entry(graph: Graph, layout: Layout) -> LayoutEntry:
    """Return the entry of a graph's columns, with where its latents have mass."""
    return LayoutEntry(
        latents=tuple(
            _with_support(VariableEntry(*_columns(v)), graph.node(v.name))
            for v in layout.latents
        ),
        observed=tuple(VariableEntry(*_columns(v)) for v in layout.observed),
    )


def layout_from(manifest: Manifest) -> Layout:
    """Return the columns in which the flow was trained."""
    return Layout(
        tuple(Variable(*_columns(v)) for v in manifest.layout.latents),
        tuple(Variable(*_columns(v)) for v in manifest.layout.observed),
    )


def structure_entry(structure: Structure, layout: Layout) -> StructureEntry:
    """Return the entry of what a flow reads, by names."""
    owner = {
        column: variable.name
        for variable in layout.observed
        for column in variable.columns
    }
    parents = {
        block.name: (
            *(structure.blocks[parent].name for parent in block.latent_parents),
            *dict.fromkeys(owner[column] for column in block.observed_columns),
        )
        for block in structure.blocks
    }
    return StructureEntry(
        latents=structure.names,
        parents=parents,
        nuisances=tuple(block.nuisances for block in structure.blocks),
        factors=structure.factors,
        potentials=structure.potentials,
    )


def heads_entry(flow: Flow) -> HeadsEntry | None:
    """Return the entry of a flow's heads; None where it has none."""
    if not isinstance(flow, HeadedFlow):
        return None
    return HeadsEntry(asdict(flow.heads.config), tuple(flow.heads.cells))


def structure_from(manifest: Manifest) -> Structure:
    """Return what the flow reads.

    Raises:
        ArgumentError: If factors or potentials do not fit it.
    """
    entry = manifest.structure
    nuisances = dict(zip(entry.latents, entry.nuisances, strict=True))
    structure = build_structure(entry, layout_from(manifest), nuisances)
    return replace(structure, factors=entry.factors, potentials=entry.potentials)


def _with_support(entry: VariableEntry, node: Node) -> VariableEntry:
    """Say where a latent has mass, unless that depends on other nodes."""
    supports = {family.support for family in node.families}
    if len(supports) != 1:
        return entry
    support = supports.pop()
    match node.distribution:
        case Call(arguments=(Constant(value=low), Constant(value=high))) if (
            support == "interval"
        ):
            return replace(entry, support=support, bounds=(float(low), float(high)))
    return replace(entry, support=support)
