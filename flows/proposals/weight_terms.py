r"""This file splits the log weight of a flow's draws into a part for every latent.

In sampling order of the inverse let c_i collect what is known as soon as latent i is
drawn, and not before: the log densities of all nodes whose last latent is i, with the
log-determinants of their free coordinates, minus log q(z_i, y_i | earlier latents, x),
plus log N(y_i; 0, I). A latent between bounds that are latents has a value when they
have. Then

    log w = log p(z, x) + log N(y; 0, I) - log q(z, y | x) = Σ_i c_i,

and c_i depends on the first i latents and their nuisances alone. Where discrete latents
are summed out, or drawn by heads, factors of the model have no such places: the log
weight is one part.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.protocol import Flow, FlowDraw
from ..marginal.target import FlowTarget
from ..model.model import Model
from ..model.standard_normal import standard_normal_log_prob

__all__ = ["Contributions", "Undivided", "contributions_of"]


class Contributions:
    """Splits the log weights of one flow's draws.

    Args:
        model: The target, float64.
        flow: In the model's columns, float64.
    """

    def __init__(self, model: Model, flow: Flow) -> None:
        self._model = model
        blocks = flow.structure.blocks
        graph = model.graph
        # Position of the last block that a latent's natural value depends on.
        known = dict.fromkeys(graph.observed, 0)
        known |= {block.name: i for i, block in enumerate(blocks)}
        for node in graph.nodes:
            supports = {family.support for family in node.families}
            if not node.is_observed and (len(supports) > 1 or "interval" in supports):
                parents = [known[parent] for parent in node.parents]
                known[node.name] = max([known[node.name], *parents])

        def last(name: str) -> int:
            return max(known[each] for each in [*graph.node(name).parents, name])

        self._prior = torch.tensor([last(v.name) for v in model.layout.latents])
        self._likelihood = torch.tensor([last(v.name) for v in model.layout.observed])
        self._nuisances = [block.nuisances for block in blocks]

    def __call__(
        self,
        draw: FlowDraw,
        observed: Float[Tensor, "row observed"],
    ) -> tuple[Float[Tensor, "row latent"], Float[Tensor, "row node"]]:
        """Return natural values of draws, and the parts of their log weights, in nats.

        Args:
            draw: Of the flow, with its densities.
            observed: Data, one row for each draw.
        """
        model = self._model
        latents, _ = model.constrain(draw.free)
        parts = -draw.log_prob_per_node
        parts.index_add_(1, self._prior, model.constrain_terms(draw.free))
        parts.index_add_(1, self._prior, model.log_prior_terms(latents, observed))
        parts.index_add_(
            1, self._likelihood, model.log_likelihood_terms(latents, observed)
        )
        for i, own in enumerate(torch.split(draw.nuisances, self._nuisances, 1)):
            parts[:, i] += standard_normal_log_prob(own)
        return latents, parts


class Undivided:
    """Log weights of a flow as one part.

    Args:
        model: The target, float64.
    """

    def __init__(self, model: FlowTarget) -> None:
        self._model = model.forgiving()

    def __call__(
        self,
        draw: FlowDraw,
        observed: Float[Tensor, "row observed"],
    ) -> tuple[Float[Tensor, "row latent"], Float[Tensor, "row 1"]]:
        """Return natural values of draws, and their log weights, in nats."""
        latents, _ = self._model.constrain(draw.free)
        target = self._model.log_joint_free(draw.free, observed)
        target = target + standard_normal_log_prob(draw.nuisances)
        return latents, (target - draw.log_prob).unsqueeze(1)


def contributions_of(model: FlowTarget, flow: Flow) -> Contributions | Undivided:
    """Return how the log weights of a flow's draws are split."""
    has_discrete = any(variable.is_discrete for variable in model.layout.latents)
    if has_discrete or not isinstance(model, Model):
        return Undivided(model)
    return Contributions(model, flow)
