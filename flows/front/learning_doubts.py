"""This file says in words why learned parameters may be wrong."""

from collections.abc import Sequence

from ..inference.cautions import Caution
from ..learning.ascent import Round
from ..learning.errors import UNKNOWN, Errors
from ..marginal.collapsed import CollapsedModel
from ..model.capabilities import listed
from ..model.model import Model
from .doubts import cut

__all__ = [
    "MOST_MISSED",
    "learning_doubts",
    "mass_left_out",
    "modes_missed",
    "not_given",
]

_LEAST_ESS = 10.0
_MOST_NOISE = 0.5
MOST_MISSED = 0.1
"""Nats of a row that modes may lack which more starts find."""


def learning_doubts(found: Round, errors: Errors, least_ess: float) -> list[Caution]:
    """Return why the parameters cannot be trusted.

    Args:
        found: The last round.
        errors: Of the parameters.
        least_ess: Effective draws of a row, the 5 % quantile.
    """
    doubts = []
    if not found.is_top:
        doubts.append(
            Caution(
                f"the last of {found.number} rounds moved {found.moved:.2g} standard "
                "errors",
                "the parameters are still on their way",
                "Allow more time by --budget",
            )
        )
    if errors.flat:
        labels = found.surface.likelihood.parted.labels
        names = listed([labels[number] for number in errors.flat])
        doubts.append(
            Caution(
                f"the posterior density has no top along {names}",
                "its maximum lies at the edge of what is possible, or the data say "
                "nothing of it, and its standard error is not known",
                "A prior that keeps away from the edge, or --posterior, says more",
            )
        )
    if errors.source == UNKNOWN:
        doubts.append(
            Caution(
                f"{len(errors.covariance)} parameters are too many for standard errors "
                "from these rows",
                "how surely they are known is not known",
                "More rows than twice the parameters give them",
            )
        )
    is_weighted = found.surface.draws.latents.shape[-1] > 0
    if is_weighted and (least_ess < _LEAST_ESS or found.noise > _MOST_NOISE):
        doubts.append(
            Caution(
                f"5 % of the rows have no more than {least_ess:.2g} effective draws of "
                f"{found.surface.draws.num}, which add {found.noise:.2g} standard "
                "errors to the parameters",
                "what is drawn from is a poor proposal there and the parameters may be "
                "biased",
                "Train longer by --budget, or choose another --method or --kind",
            )
        )
    return doubts


def modes_missed(nats: float) -> list[Caution]:
    """Return a caution if more starts find more modes of a row."""
    if nats < MOST_MISSED:
        return []
    return [
        Caution(
            "the posteriors of rows have more modes than were found: more starts "
            f"raise the log likelihood of a row by {nats:.2g} nats",
            "the parameters may be biased",
            "Choose --method flow",
        )
    ]


def mass_left_out(found: Round) -> list[Caution]:
    """Return a caution if a cut of an infinite support leaves mass out of a row."""
    surface = found.surface
    parted, data = surface.likelihood.parted, surface.likelihood.data
    target = parted.target
    if not isinstance(target, CollapsedModel) or not target.tables.truncated:
        return []
    values = surface.coordinates.values(found.place).detach()
    latents = surface.draws.latents[0]
    mass = float(target.left_out(latents, parted.observed(values, data)).max())
    return cut(target, mass, of="the prior's mass", what="the likelihood")


def not_given(model: Model, num_rows: int, left_out: Sequence[str]) -> list[Caution]:
    """Return a caution if nodes have the model's own data in every row.

    Args:
        model: The model.
        num_rows: How many rows there are.
        left_out: The nodes that all of them leave out.
    """
    if num_rows == 1 or len(left_out) in (0, len(model.layout.observed)):
        return []
    return [
        Caution(
            f"{listed(left_out)}: the program's own data in every row",
            "rows that leave a node out count as if it had been observed so each time",
            "Give it a column in the rows, or take it out of the program",
        )
    ]
