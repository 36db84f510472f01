"""This file owns `Source`: a model, and what its weighted particles are drawn from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..inference.cautions import Caution
from ..inference.importance import ImportanceReport
from ..inference.particles import Particles
from ..inference.proposal import Proposal
from ..marginal.target import FlowTarget, target_of
from ..model.model import Model
from .arguments import seed_of, whole
from .edges import edge_doubts
from .sampling import Drawing, Trained, completed, drawn
from .settings import check_model

__all__ = ["Data", "Source", "Untrained", "row_of"]

Data = Mapping[str, Any] | Float[Tensor, " observed"] | None
"""Data by name of an observed node, or a whole row; None: the document's."""


class Source(ABC):
    """A model, and what its weighted particles are drawn from.

    Attributes:
        model: The model.
        target: The model, discrete latents summed out: what is drawn from.
    """

    __slots__ = ()
    model: Model
    target: FlowTarget

    @property
    @abstractmethod
    def trained(self) -> Trained | None:
        """The flow, if there is one."""

    @property
    def refined_for(self) -> Float[Tensor, " observed"] | None:
        """The one data set that the flow was refined for; None: it is for every one."""
        if self.trained is None:
            return None
        return self.trained.artifact.data_for(self.model.graph, self.model.layout)

    def cautions(self, observed: Data = None) -> tuple[Caution, ...]:
        """Return what to know before draws at these data are used.

        Args:
            observed: Data by name of an observed node; the document's elsewhere.
        """
        own = self.refined_for
        if own is None or torch.equal(own, row_of(self.model, observed)):
            return ()
        return (
            Caution(
                "this flow was refined for other data",
                "its draws are weighted rightly, but few of them may carry weight here",
                "Refine it for these data (`daphne-flows refine`), or use the flow "
                "that was trained",
            ),
        )

    def proposal(self, kind: str = "flow", *, mixture_weight: float = 0.1) -> Proposal:
        """Return what particles are drawn from.

        Args:
            kind: flow, prior, or mixture of both.
            mixture_weight: Share of the prior in the mixture.
        """
        return Drawing(proposal=kind, mixture_weight=mixture_weight).of(
            self.trained, self.target
        )

    def sample(
        self,
        observed: Data = None,
        num_particles: int = 10_000,
        *,
        seed: int = 0,
        proposal: str = "flow",
        mixture_weight: float = 0.1,
        target_ess: float | None = None,
        num_workers: int = 1,
        cluster: str | None = None,
        weighted: bool = True,
        scratch: Path | None = None,
        on_report: Callable[[ImportanceReport], None] | None = None,
    ) -> Particles:
        """Return weighted particles given data.

        The command `daphne-flows sample` gives the same for the same seed. Their
        `doubts` say what posterior mass a flow misses, and so does their summary.

        Args:
            observed: Data by name of an observed node; the document's elsewhere.
            num_particles: How many; with `target_ess` the most.
            seed: Decides every draw.
            proposal: What they are drawn from: flow, prior or mixture.
            mixture_weight: Share of the prior in the mixture.
            target_ess: Drawing stops at this effective sample size.
            num_workers: Processes that draw.
            cluster: Address of a Dask scheduler whose workers draw instead.
            weighted: If not, all weights are equal: the draws are the flow's own.
            scratch: Folder for latents that memory should not hold.
            on_report: Called with every batch's report.

        Raises:
            FlowsError: If data do not fit, weights are without meaning, or a flow is
                wanted and there is none.
        """
        seed = seed_of(seed)
        how = Drawing(
            num_particles=whole("num_particles", num_particles, 1),
            seed=seed,
            proposal=proposal,
            mixture_weight=mixture_weight,
            target_ess=target_ess,
            num_workers=num_workers,
            cluster=cluster,
            weighted=weighted,
        )
        particles = drawn(
            self.target,
            self.trained,
            row_of(self.model, observed),
            how,
            scratch=scratch,
            on_report=on_report,
        )
        row = row_of(self.model, observed)
        full = completed(self.target, particles, row, seed)
        if not weighted or proposal == "prior":
            return full
        doubts = edge_doubts(self.target.forgiving(), row, particles, seed=seed)
        return replace(full, doubts=doubts)


@dataclass(frozen=True, slots=True, eq=False)
class Untrained(Source):
    """A model without a flow: particles are drawn from its prior.

    Attributes:
        model: The model; it may observe nothing, or have discrete latents only.
        target: The model, discrete latents summed out; draws without meaning weigh 0.
    """

    model: Model
    target: FlowTarget

    @classmethod
    def of(cls, model: Model) -> "Untrained":
        """Return a model without a flow; latents too wide to be summed out stay."""
        return cls(model, target_of(model, may_sample=True).forgiving())

    @property
    def trained(self) -> None:
        """There is no flow."""
        return


def row_of(model: Model, data: Data) -> Float[Tensor, " observed"]:
    """Return data as a row of the model's columns.

    Raises:
        FlowsError: If data do not fit the model.
    """
    check_model(model)
    if not isinstance(data, Tensor):
        return model.observation(data)
    width = model.layout.observed_dim
    if data.shape != (width,):
        raise ArgumentError.at(
            "observed", "wrong shape", f"one row of {width}", f"{list(data.shape)}"
        )
    return data.to(model.device, model.dtype)
