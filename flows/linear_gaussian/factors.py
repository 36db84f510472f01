"""This file says which latents are linear and Gaussian given the others.

Such a latent is normal, and so is each of its children, its mean linear in these
latents and its scale no function of them. Where a product has two of them one side's
latents stay with the others.
"""

from collections.abc import Collection

from ..model.dag import Dag
from ..model.lowered import Lowered
from ..model.lowered_graph import LoweredGraph
from .forms import Readers

__all__ = [
    "conditionally_gaussian",
    "gaussian_latents",
    "has_linear_mean",
    "is_normal",
    "residual_and_scale",
]


def is_normal(entry: Lowered) -> bool:
    """Return whether a node is a number, and normal whatever other nodes are."""
    families = [branch.family for branch in entry.branches]
    is_free = entry.condition is None and not entry.atoms
    return families == ["normal"] and is_free and not entry.shape


def has_linear_mean(entry: Lowered, readers: Readers) -> bool:
    """Return whether a node is normal, its mean linear in latents, its scale free."""
    if not is_normal(entry):
        return False
    (mean,), (scale,) = entry.branches[0].parameters
    return not readers.bits[scale] and not readers.not_linear([mean])


def residual_and_scale(entry: Lowered, dag: Dag) -> tuple[int, int]:
    """Return the slots of a normal node's value less its mean, and of its scale."""
    (mean,), (scale,) = entry.branches[0].parameters
    return dag.affine([(entry.slots[0], 1.0), (mean, -1.0)], 0.0), scale


def gaussian_latents(
    lowered: LoweredGraph, left_out: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the names of latents that are linear and Gaussian given the others.

    Args:
        lowered: The graph, of continuous latents.
        left_out: Names of latents that are not among the others, and not looked for.
    """
    seen = [entry for n, entry in lowered.nodes.items() if n not in left_out]
    return tuple(n for n in _linear_in(lowered, seen) if n not in left_out)


def conditionally_gaussian(lowered: LoweredGraph) -> tuple[str, ...]:
    """Return names of latents that are linear and Gaussian given all but what they say.

    Normal ones, means linear in each other, scales no function of them; anything may
    read them.

    Args:
        lowered: The graph, of continuous latents.
    """
    return _linear_in(lowered, [e for e in lowered.latents if is_normal(e)])


def _linear_in(lowered: LoweredGraph, entries: Collection[Lowered]) -> tuple[str, ...]:
    """Return normal latents that some nodes have in means alone, and linearly there."""
    own = [entry for entry in lowered.latents if is_normal(entry)]
    readers = Readers(lowered.dag, [entry.slots[0] for entry in own])
    gone = 0
    for entry in entries:
        gone |= _read_otherwise(entry, lowered, readers)
    means = [e.branches[0].parameters[0][0] for e in entries if is_normal(e)]
    gone = readers.not_linear(means, gone)
    return tuple(
        entry.node.name for number, entry in enumerate(own) if not gone >> number & 1
    )


def _read_otherwise(entry: Lowered, lowered: LoweredGraph, readers: Readers) -> int:
    """Return the latents that a node's density has in any place but a normal's mean."""
    if is_normal(entry):
        return readers.bits[entry.branches[0].parameters[1][0]]
    return readers.bits[lowered.terms[entry.node.name]]
