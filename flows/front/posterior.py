"""This file owns `Posterior`: a trained flow for every data set of its model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..flow.protocol import Flow
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import target_of
from ..model.model import Model
from ..proposals.flow import FlowProposal
from ..storage.artifact import Artifact
from .sampling import Trained
from .source import Data, Source, row_of

__all__ = ["Posterior", "load"]


@dataclass(frozen=True, slots=True, eq=False)
class Posterior(Source):
    """p(latents | observed) by a flow, and by weights exactly in the limit.

    Attributes:
        model: The model.
        target: The model, discrete latents summed out: what the flow is of.
        artifact: What `save` writes.
        flow: In the model's columns, float64, solved for weights.
    """

    model: Model
    target: Model | CollapsedModel
    artifact: Artifact
    flow: Flow

    @classmethod
    def of(
        cls, model: Model, artifact: Artifact, *, weighted: bool = True
    ) -> "Posterior":
        """Return the posterior of a model by an artifact.

        Args:
            model: The target; names, numbering and data may be others than those of
                training.
            artifact: The trained flow.
            weighted: Whether its draws are to be weighted.

        Raises:
            ArtifactError: If it is of another model, whose first difference is named;
                if weights are wanted and a latent has no density.
        """
        target = target_of(model)
        flow = artifact.flow_for(model.graph, target.layout, weighted=weighted)
        return cls(model, target, artifact, flow)

    @property
    def trained(self) -> Trained:
        """The flow, and the artifact that it is of."""
        return Trained(self.artifact, self.flow)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What training measured: best J in nats, iterations, seconds of work."""
        return self.artifact.manifest.training.metrics

    def save(self, path: Path | str) -> None:
        """Write the artifact's folder, whole or not at all.

        Raises:
            ArtifactError: If something else is in the place, or it cannot be written.
        """
        self.artifact.save(Path(path))

    @torch.no_grad()
    def log_prob(
        self,
        latents: Float[Tensor, "particle latent"],
        observed: Data = None,
        *,
        num_draws: int = 100,
        seed: int = 0,
    ) -> Float[Tensor, " particle"]:
        """Return the flow's log density of natural values, in nats.

            log q(z | x) = log E over y ~ N(0, I) of q(z, y | x) / N(y; 0, I),

        with y the nuisances: exact without any, else estimated (from below in the
        mean) by draws of y.

        Args:
            latents: Natural values in the target's columns, float64.
            observed: Data by name of an observed node; the document's elsewhere.
            num_draws: Draws of the nuisances for each row.
            seed: Of these draws.
        """
        row = row_of(self.model, observed)
        proposal = FlowProposal(self.flow, self.target)
        width = proposal.nuisance_dim
        draws = num_draws if width else 1
        generator = torch.Generator().manual_seed(seed)
        shape = (draws * latents.shape[0], width)
        nuisances = torch.randn(shape, generator=generator, dtype=latents.dtype)
        repeated = latents.repeat(draws, 1)
        terms = proposal.log_prob(repeated, nuisances, row).reshape(draws, -1)
        return terms.logsumexp(0) - math.log(draws)


def load(path: Path | str, model: Model, *, weighted: bool = True) -> Posterior:
    """Return the posterior of a model by an artifact on disk, checked end to end.

    Args:
        path: The folder that `Posterior.save` or `daphne-flows train` wrote.
        model: The target.
        weighted: Whether its draws are to be weighted.

    Raises:
        ArtifactError: If a file is missing or damaged, or it is of another model.
    """
    return Posterior.of(model, Artifact.load(Path(path)), weighted=weighted)
