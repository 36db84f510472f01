r"""This file draws a flow's latents one by one, for sequential Monte Carlo from it.

Step t belongs to latent t in sampling order of the inverse. Every particle is drawn
from q(z, y | x) at once, but weighed latent by latent: c_t (`weight_terms.py`) is what
enters the log weight with latent t. Where particles were resampled, all copies but one
of a particle draw the latents that are left anew, from q(left | those so far, x): they
share their past and not their future.

Messages. Weighed by c_1 + ... + c_t alone, particles would be drawn to a target that
knows only what is complete at step t: densities of data whose latents are there, none
of the prior of those that come last. To an exact flow, whose log w = Σ c_t is the same
for every particle, that does harm. What step t lacks is a message from the latents that
are left to those they read. Messages m_j, functions of the inverse's parents of latent
j, are fitted to pilot draws of the flow from the last latent to the first, by least
squares on squares and products,

    m_j(parents of j) ≈ c_j + Σ over k whose last parent is j of m_k,

and step t weighs by how far this is from true,

    log w_t = c_t + (Σ over k whose last parent is t of m_k) - m_t.

The sum over all steps is log w whatever the messages are, so estimates are unbiased.
For the posterior of a linear-Gaussian model the messages are exact and log w_t is
constant; elsewhere they only have to be better than none.

References:
    Guarniero, Johansen, Lee (2017), The iterated nuisances particle filter, JASA
    112(520), https://arxiv.org/abs/1511.06286
    Le, Baydin, Wood (2017), Inference compilation, https://arxiv.org/abs/1610.09900
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.kinds import for_weights
from ..flow.protocol import Flow, FlowDraw, Known
from ..inference.shapes import Latents, State
from ..inference.smc.sequence import Step
from ..model.model import Model
from ..model.shapes import ObservedRow
from .lookahead import Message
from .weight_terms import Contributions

__all__ = ["FlowSequence"]

_PILOT_DRAWS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class FlowSequence:
    """A flow's latents in its sampling order, one per step.

    A particle's state: its free coordinates, its nuisances, what every step weighs, and
    a number that its copies share.

    Attributes:
        model: The target, float64.
        flow: In the model's columns; what is kept is its version for weights.
        observed: The observed values.
        messages: For each latent, what the later ones say of its parents; None where
            nothing is said.
    """

    model: Model
    flow: Flow
    observed: ObservedRow
    messages: tuple[Message | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "flow", for_weights(self.flow))

    @classmethod
    def fitted(
        cls,
        model: Model,
        flow: Flow,
        observed: ObservedRow,
        *,
        generator: torch.Generator,
        num_pilots: int = _PILOT_DRAWS,
    ) -> "FlowSequence":
        """Return the sequence with messages fitted to pilot draws.

        Args:
            model: The target, float64.
            flow: In the model's columns, of any precision.
            observed: The observed values.
            generator: Of the pilot draws; one of their own, as particles that had a
                part in the messages would bias the evidence.
            num_pilots: How many of them; 0 does without messages.
        """
        blank = cls(model, flow, observed, (None,) * len(flow.structure.blocks))
        if num_pilots == 0:
            return blank
        with torch.no_grad():
            draw, parts = blank._drawn(num_pilots, generator)
        messages: list[Message | None] = [None] * blank.num_steps
        # What is known of a latent's parents once all later latents have spoken.
        for step in reversed(range(blank.num_steps)):
            block = flow.structure.blocks[step]
            columns = [
                column
                for parent in block.latent_parents
                for column in flow.structure.blocks[parent].free_columns
            ]
            message = Message.fitted(columns, draw.free, parts[:, step])
            if message is not None:
                parts[:, max(block.latent_parents)] += message(draw.free)
            messages[step] = message
        return cls(model, flow, observed, tuple(messages))

    @property
    def num_steps(self) -> int:
        """Return the number of latents."""
        return len(self.flow.structure.blocks)

    def start(self, num_particles: int, *, generator: torch.Generator) -> Step:
        """Return draws, weighed by what the first latent says."""
        draw, parts = self._drawn(num_particles, generator)
        weighed = self._weighed(draw.free, parts)
        number = torch.arange(num_particles).to(weighed).unsqueeze(1)
        state = torch.cat([draw.free, draw.nuisances, weighed, number], 1)
        return Step(state, weighed[:, 0])

    def extend(self, state: State, step: int, *, generator: torch.Generator) -> Step:
        """Return the particles with copies redrawn, weighed by what this step says."""
        copies = _copies(state[:, -1])
        if copies.numel():
            state = state.clone()
            state[copies] = self._redrawn(state[copies], step, generator)
            # Numbers are never used twice.
            first = state[:, -1].max() + 1.0
            fresh = torch.arange(copies.numel(), device=state.device)
            state[copies, -1] = first + fresh.to(state.dtype)
        return Step(state, state[:, step - self.num_steps - 1])

    def latents(self, state: State) -> Latents:
        """Return the natural values of all latents."""
        return self.model.constrain(state[:, : self.flow.structure.free_dim])[0]

    def _drawn(
        self, num: int, generator: torch.Generator
    ) -> tuple[FlowDraw, Float[Tensor, "row node"]]:
        """Return draws of the flow, with the parts of their log weights."""
        rows = self.observed.expand(num, -1)
        draw = self.flow.rsample_and_log_prob(rows, generator=generator)
        return draw, Contributions(self.model, self.flow)(draw, rows)[1]

    def _redrawn(
        self,
        state: Float[Tensor, "copy state"],
        step: int,
        generator: torch.Generator,
    ) -> Float[Tensor, "copy state"]:
        """Return particles with the latents from this step on drawn anew."""
        structure = self.flow.structure
        rows = self.observed.expand(state.shape[0], -1)
        split = [structure.free_dim, structure.nuisance_dim, self.num_steps, 1]
        free, nuisances, _, number = torch.split(state, split, 1)
        known = Known(free, nuisances, structure.names[:step])
        drawn = self.flow.rsample_remaining(known, rows, generator=generator)
        parts = Contributions(self.model, self.flow)(drawn, rows)[1]
        weighed = self._weighed(drawn.free, parts)
        return torch.cat([drawn.free, drawn.nuisances, weighed, number], 1)

    def _weighed(
        self, free: Float[Tensor, "row free"], parts: Float[Tensor, "row node"]
    ) -> Float[Tensor, "row node"]:
        """Return what every step weighs: the parts, messages put where they belong."""
        weighed = parts.clone()
        blocks = self.flow.structure.blocks
        for step, (block, message) in enumerate(
            zip(blocks, self.messages, strict=True)
        ):
            if message is not None:
                said = message(free)
                weighed[:, max(block.latent_parents)] += said
                weighed[:, step] -= said
        return weighed


def _copies(numbers: Float[Tensor, " particle"]) -> Tensor:
    """Return the places of all but the first of those with equal numbers."""
    ordered, order = numbers.sort(stable=True)
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[1:] = ordered[1:] == ordered[:-1]
    return order[again]
