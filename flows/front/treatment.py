"""This file says what is done with each discrete latent, before anything is computed.

It is summed out; or sampled, where the tables over it would be too wide. Infinitely
many values are cut off where nothing is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from daphne_bridge.graph.graph import Graph

from ..marginal.collapsed import CollapsedModel
from ..marginal.target import target_of
from ..model.capabilities import listed
from ..model.model import Model
from ..model.returns import return_value

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
    found = Treatment.of(target_of(model, may_sample=True))
    return {
        "summed_out": found.summed_out,
        "truncated": found.truncated,
        "sampled": found.sampled,
    }


@dataclass(frozen=True, slots=True)
class Treatment:
    """Labels of discrete latents by what is done with them.

    Attributes:
        summed_out: Their values are summed over.
        truncated: Those among them whose infinitely many values are cut off.
        sampled: Rows hold their values.
        is_exact: Whether there are no other latents.
    """

    summed_out: tuple[str, ...] = ()
    truncated: tuple[str, ...] = ()
    sampled: tuple[str, ...] = ()
    is_exact: bool = False

    @classmethod
    def of(cls, target: Model | CollapsedModel) -> "Treatment":
        """Return what is done for a target."""
        if not isinstance(target, CollapsedModel):
            return cls()
        tables, layout = target.tables, target.model.layout

        def labels(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(layout.variable(name).label for name in names)

        return cls(
            labels(tables.discrete),
            labels(tables.truncated),
            labels(target.sampled),
            not target.layout.latents,
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
        if self.truncated:
            found += f"; cut off where nothing is left: {listed(self.truncated)}"
        return found
