"""This file keeps what a flow gave at a few points, for readers to test themselves."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArtifactError
from ..flow.protocol import Flow

__all__ = ["GoldenValues"]

_NUM = 4
_MOST = 1000
_SEED = 20200826
_TOLERANCE = 1e-6
_DESCRIPTION = (
    "Row by row: base points at t = 0 in state order, observed values, free "
    "coordinates and nuisances at t = 1, log q(free, nuisances | observed) in "
    "nats in all and per node in sampling order."
)


@dataclass(frozen=True, slots=True, eq=False)
class GoldenValues:
    """Base points and observed values, with the end points and log densities there.

    Attributes:
        tolerance: Of the solver, relative and absolute.
        base: Base points in state order.
        observed: Observed values.
        free: Where the base points go, in free coordinates.
        nuisances: Likewise.
        log_prob: log q(free, nuisances | observed), in nats.
        log_prob_per_node: Its terms, in sampling order.
    """

    tolerance: float
    base: Float[Tensor, "row state"]
    observed: Float[Tensor, "row observed"]
    free: Float[Tensor, "row free"]
    nuisances: Float[Tensor, "row nuisance"]
    log_prob: Float[Tensor, "row one"]
    log_prob_per_node: Float[Tensor, "row node"]

    @classmethod
    def of_flow(cls, flow: Flow, tolerance: float) -> "GoldenValues":
        """Return what a flow in float64 gives."""
        generator = torch.Generator().manual_seed(_SEED)
        base, spread = (
            torch.randn(_NUM, width, generator=generator, dtype=torch.float64)
            for width in (flow.structure.state_dim, flow.structure.observed_dim)
        )
        state = flow.state_dict()
        observed = spread * state.get("normalisation.observed_scale", 1.0)
        observed = observed + state.get("normalisation.observed_shift", 0.0)
        return cls(tolerance, base, observed, *_ends(flow, base, observed))

    @classmethod
    def from_json(cls, entry: Any, where: str) -> "GoldenValues":
        """Return the values in a file; `check` looks at their shapes.

        Args:
            entry: What the file holds.
            where: The file.

        Raises:
            ArtifactError: If something is missing, or is no table of numbers.
        """
        try:
            # Versions 1 and 2 say auxiliary.
            nuisances = entry["nuisances" if "nuisances" in entry else "auxiliary"]
            return cls(
                float(entry["tolerance"]),
                _table(entry["base"]),
                _table(entry["observed"]),
                _table(entry["free"]),
                _table(nuisances),
                _table(entry["log_prob"]),
                _table(entry["log_prob_per_node"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
            raise _damaged(where) from None

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "description": _DESCRIPTION,
            "tolerance": self.tolerance,
            "base": self.base.tolist(),
            "observed": self.observed.tolist(),
            "free": self.free.tolist(),
            "nuisances": self.nuisances.tolist(),
            "log_prob": self.log_prob[:, 0].tolist(),
            "log_prob_per_node": self.log_prob_per_node.tolist(),
        }

    def check(self, flow: Flow, where: str) -> None:
        """Compute the values anew and compare.

        Args:
            flow: With a solver as accurate as that of the values.
            where: The file, for the message.

        Raises:
            ArtifactError: If they differ by more than the solver's error.
        """
        structure = flow.structure
        rows = len(self.base)
        widths = (
            (self.base, structure.state_dim),
            (self.observed, structure.observed_dim),
            (self.free, structure.free_dim),
            (self.nuisances, structure.nuisance_dim),
            (self.log_prob, 1),
            (self.log_prob_per_node, len(structure.blocks)),
        )
        if not 0 < rows <= _MOST or any(t.shape != (rows, n) for t, n in widths):
            raise _damaged(where)
        stated = (self.free, self.nuisances, self.log_prob, self.log_prob_per_node)
        found = _ends(flow, self.base, self.observed)
        allowed = _TOLERANCE * (
            1.0 + self.free.abs().amax() + self.log_prob.abs().amax()
        )
        difference = float((torch.cat(found, -1) - torch.cat(stated, -1)).abs().amax())
        if not difference <= float(allowed):
            raise ArtifactError.at(
                where,
                "the flow does not give its golden values",
                f"a difference up to {float(allowed):.1e}",
                f"{difference:.1e}",
            )


def _ends(flow: Flow, base: Tensor, observed: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        drawn = flow.from_base(base, observed)
    return (
        drawn.free,
        drawn.nuisances,
        drawn.log_prob.unsqueeze(-1),
        drawn.log_prob_per_node,
    )


def _table(rows: Any) -> Tensor:
    table = torch.tensor(rows, dtype=torch.float64)
    return table.reshape(len(rows), table[0].numel() if len(rows) else 0)


def _damaged(where: str) -> ArtifactError:
    names = "tables base, observed, free, nuisances and log_prob_per_node, and log_prob"
    return ArtifactError.at(where, "damaged", names)
