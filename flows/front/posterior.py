"""This file owns `Posterior`: a trained flow for every data set of its model.

Bent to one data set by `refine`, it is worth most there, and its weights stay right.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..flow.protocol import Flow
from ..marginal.target import FlowTarget
from ..measurement.evaluation import Evaluation, EvaluationConfig, evaluate
from ..model.model import Model
from ..proposals.flow import FlowProposal
from ..storage.artifact import Artifact
from ..training.state import Report
from .arguments import path_of, seed_of, whole
from .refinement import REFINING, refinement
from .sampling import Trained
from .settings import Settings, check_model, training_settings
from .source import Data, Source, row_of

__all__ = ["Posterior", "load", "refine"]


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
    target: FlowTarget
    artifact: Artifact
    flow: Flow

    def __repr__(self) -> str:
        """Return one line; `metrics` has what training measured."""
        bent = "" if self.refined_for is None else ", bent to one data set"
        return (
            f"<Posterior of {self.model!r} by {self.artifact.manifest.flow.kind}{bent}>"
        )

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
        check_model(model)
        target = artifact.target_for(model).forgiving()
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

    def refine(
        self,
        observed: Data = None,
        *,
        budget: str | float = "1m",
        seed: int = 0,
        config: Settings = None,
        engine: str = "auto",
        on_progress: Callable[[float, str], None] | None = None,
        on_report: Callable[[Report], None] | None = None,
        on_compile: Callable[[], None] | None = None,
    ) -> "Posterior":
        """Return the posterior whose flow is bent to one data set; see `refine`."""
        return refine(
            self.model,
            observed,
            posterior=self,
            budget=budget,
            seed=seed,
            config=config,
            engine=engine,
            on_progress=on_progress,
            on_report=on_report,
            on_compile=on_compile,
        )

    def check_amortised(self, where: str) -> None:
        """Refuse a flow of one data set where it has to be of every one.

        Args:
            where: What it is, for the message.

        Raises:
            ArgumentError: If it is of one.
        """
        if self.refined_for is not None:
            raise ArgumentError.at(
                where,
                "this flow is of one data set, so it says nothing of others",
                "a flow of `daphne-flows train` without `--one-data-set`",
            )

    def evaluate(
        self,
        num_draws: int = 10_000,
        *,
        num_data_sets: int = 100,
        num_particles: int = 1000,
        seed: int = 1,
        on_progress: Callable[[float], None] | None = None,
    ) -> Evaluation:
        """Return how good the flow is as a proposal for all data of its model.

        The command `daphne-flows evaluate` gives the same for the same seed.

        Args:
            num_draws: Joint draws for J, each way, and for the marginals.
            num_data_sets: That the model draws, for ESS / N and calibration.
            num_particles: Draws for each of them.
            seed: Decides every draw.
            on_progress: Called with the share that is done.

        Raises:
            ArgumentError: If the flow is of one data set, or a number is out of range.

        Example:
            >>> import flows
            >>> program = "(let [m (sample (normal 0 9))] (observe (normal m 1) 5) m)"
            >>> model = flows.Model.from_program(program)
            >>> posterior = flows.train(model, budget=5)
            >>> found = posterior.evaluate(1000, num_data_sets=10)
            >>> abs(found.j.symmetric.mean) < 0.01, found.flow.ess_median > 0.99
            (True, True)
        """
        self.check_amortised("posterior")
        config = EvaluationConfig(
            whole("num_draws", num_draws, 2),
            whole("num_data_sets", num_data_sets, 1),
            whole("num_particles", num_particles, 1),
            seed_of(seed),
        )
        tolerance = self.artifact.tolerance
        for report in evaluate(self.target, self.flow, config, tolerance=tolerance):
            if on_progress is not None:
                on_progress(report.rows_done / report.rows_total)
            if report.result is not None:
                return report.result
        raise AssertionError("an evaluation ends with its result")

    def save(self, path: Path | str) -> None:
        """Write the artifact's folder, whole or not at all.

        Raises:
            ArtifactError: If something else is in the place, or it cannot be written.
        """
        self.artifact.save(path_of("path", path))

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
        columns = self.target.layout.latent_dim
        if not isinstance(latents, Tensor) or latents.shape[1:] != (columns,):
            expected = f"a tensor with rows of {columns}"
            got = getattr(latents, "shape", type(latents).__name__)
            raise ArgumentError.at("latents", "wrong shape", expected, str(got))
        row = row_of(self.model, observed)
        proposal = FlowProposal(self.flow, self.target)
        width = proposal.nuisance_dim
        draws = whole("num_draws", num_draws, 1) if width else 1
        generator = torch.Generator().manual_seed(seed_of(seed))
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
    return Posterior.of(model, Artifact.load(path_of("path", path)), weighted=weighted)


def refine(
    model: Model,
    observed: Data = None,
    *,
    posterior: Posterior | None = None,
    budget: str | float = "1m",
    seed: int = 0,
    config: Settings = None,
    engine: str = "auto",
    on_progress: Callable[[float, str], None] | None = None,
    on_report: Callable[[Report], None] | None = None,
    on_compile: Callable[[], None] | None = None,
) -> Posterior:
    """Return a posterior whose flow is bent to one data set.

    Particles of `infer` at these data are what the flow is fitted to, then both
    divergences between flow and posterior are brought down.

    Args:
        model: The target, with continuous latents.
        observed: Data by name of an observed node; the document's elsewhere.
        posterior: A trained flow, used where it is good at these data; its kind and
            shape are kept.
        budget: Most seconds by the wall clock, or a duration such as `2m`.
        seed: Decides every draw.
        config: Training settings: a configuration, a mapping, or a TOML file; those
            that suit one data set if None.
        engine: What solves the flow in training.
        on_progress: Called with the share that is done, and a note, while particles are
            made.
        on_report: Called with every report of training.
        on_compile: Called before a kernel is compiled, which takes a while.

    Raises:
        FlowsError: If no flow can be trained for the model, nothing explains the data,
            or an argument is wrong.

    Example:
        >>> import flows
        >>> program = "(let [m (sample (normal 0 9))] (observe (normal m 1) 5) m)"
        >>> model = flows.Model.from_program(program)
        >>> bent = flows.refine(model, engine="torch")
        >>> bent.metrics["ess_fraction"] > 0.99
        True
    """
    settings = REFINING if config is None else training_settings(config)
    artifact = refinement(
        model,
        row_of(model, observed),
        None if posterior is None else posterior.flow,
        budget=budget,
        config=settings,
        seed=seed_of(seed),
        engine=engine,
        on_progress=on_progress,
        on_report=on_report,
        on_compile=on_compile,
    )
    return Posterior.of(model, artifact)
