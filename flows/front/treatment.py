"""This file says what is done with each latent, before anything is computed.

A discrete one is summed out; or sampled, where the tables over it would be too wide.
Infinitely many values are cut off where nothing is left. A continuous one that is
linear and Gaussian given the others is integrated out.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from daphne_bridge.graph.graph import Graph

from ..linear_gaussian.target import GaussianMarginal
from ..model.capabilities import listed
from ..model.model import Model
from ..model.returns import return_value
from .targets import Target, reduced

__all__ = ["Treatment", "check_answerable"]


def check_answerable(graph: Graph) -> dict[str, Sequence[str]]:
    """Return labels of latents by what `infer` does with them; `daphne-bridge check`.

    Args:
        graph: A graph without errors.

    Raises:
        ModelError: If `infer` refuses it, in the same words.
    """
    model = Model.from_graph(graph)
    model.observation()
    return_value(model.lowered)
    found = Treatment.of(reduced(model))
    return {
        "summed_out": found.summed_out,
        "truncated": found.truncated,
        "sampled": found.sampled,
        "integrated": found.integrated,
    }


@dataclass(frozen=True, slots=True)
class Treatment:
    """Labels of latents by what is done with them.

    Attributes:
        summed_out: Their values are summed over.
        truncated: Those among them whose infinitely many values are cut off.
        sampled: Rows hold their values.
        integrated: Continuous ones, linear and Gaussian given the others.
        is_exact: Whether there are no other latents.
    """

    summed_out: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    integrated: tuple[str, ...] = ()
    is_exact: bool = False

    @classmethod
    def of(cls, target: Target) -> "Treatment":
        """Return what is done for a target."""
        if isinstance(target, Model):
            return cls()
        layout = target.model.layout

        def labels(names: Collection[str]) -> tuple[str, ...]:
            return tuple(v.label for v in layout.latents if v.name in names)

        if isinstance(target, GaussianMarginal):
            return cls(integrated=labels(target.integrated))
        tables = target.tables
        return cls(
            labels(tables.discrete),
            labels(tables.truncated),
            labels(target.sampled),
            is_exact=not target.layout.latents,
        )

    def clause(self, *, has_heads: bool = False) -> str:
        """Return what to add to why a method was chosen; empty if nothing.

        Args:
            has_heads: Whether a trained flow drew what is sampled.
        """
        found = ""
        if self.sampled:
            rest = len(self.summed_out)
            how = "too wide to be summed out, and sampled"
            if has_heads:
                how = "drawn by learned heads"
            found = (
                f"; {how}: {listed(self.sampled)}; "
                f"{rest or 'no'} other discrete latent{'' if rest == 1 else 's'} "
                "summed out"
            )
        elif self.summed_out and not self.is_exact:
            found = f"; summed out: {listed(self.summed_out)}"
        if self.integrated:
            found += (
                "; linear and Gaussian given the others, and integrated out: "
                + listed(self.integrated)
            )
        if self.truncated:
            found += f"; cut off where nothing is left: {listed(self.truncated)}"
        return found
