"""This file infers: from a model and one data set to an answer that says its worth.

The method is chosen with evidence:

- only discrete latents: exact, by elimination;
- nothing observed: draws of the prior;
- draws of the prior that carry enough weight: importance sampling from the prior;
- draws around the modes that carry enough: importance sampling from a mixture of
  Student's t fitted there, the prior mixed in;
- otherwise sequential Monte Carlo from that mixture, or from the prior, to the
  posterior, in independent islands whose disagreement is looked at.

Discrete latents beside continuous ones are summed out, and drawn at the end given the
rest. Rows without meaning (a negative scale) weigh 0 and are counted.
"""

import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from ..errors import ArgumentError, Problem
from ..inference.cautions import K_HAT_LIMIT, LOG_EVIDENCE_ERROR_LIMIT, Caution
from ..inference.columns import latent_columns
from ..inference.importance import importance_particles
from ..inference.laplace import MixtureProposal, laplace_mixture
from ..inference.pareto import pareto_k_hat
from ..inference.particles import Particles
from ..inference.proposal import DefensiveMixture, PriorProposal, Proposal
from ..inference.smc.annealing import AnnealingReport, annealed_smc
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.coordinates import FreeSpace
from ..inference.smc.forgetting import move_cautions
from ..inference.smc.moves import Hamiltonian
from ..inference.smc.result import SmcResult, merge_runs, run_seed
from ..marginal.collapsed import CollapsedModel, collapse
from ..marginal.exact import ExactPosterior
from ..model.model import Model
from ..model.returns import Leaf, ReturnValue, return_value
from ..report.inference_table import inference_table
from ..storage.export import save_summary
from ..storage.folders import check_folder_place, new_folder
from .figures import Figures, figures_of
from .settings import seconds_of

__all__ = ["ANSWER", "METHODS", "OWN_FILES", "Inference", "infer"]

ANSWER = "inference.json"
"""Name of the file that holds the answer."""

OWN_FILES = (ANSWER, "particles.npz", "graph.json", "graph.names.json")
"""Names of the files in a folder of an answer; another file is never replaced."""

_TEXT_WIDTH = 110

METHODS = ("auto", "exact", "flow", "prior", "laplace", "smc")

_PILOT = 10_000
_LEAST_ESS = 100.0
_ENOUGH_ESS = 1_000.0
_HOPEFUL_ESS = 5.0
_PILOT_SECONDS = 4.0
_MOST_PILOT = 2_000_000
_PRIOR_SHARE = 0.05
_REFITS = 4
_FINE_SHARE = 0.5
_BATCH = 1_000
_LEAST_LEFT_OUT = 1e-8
_MOST_WIDE = 64
_NEAR_CUT = 0.9
_ISLANDS = 2
_ISLAND_PARTICLES = 1_000
_LEAPS = 16
_MOST_APART = 4.0


@dataclass(frozen=True, eq=False)
class Inference:
    """What is known of one data set, and how far to trust it.

    Attributes:
        method: exact, prior or smc.
        why: Why this method, in one clause.
        model: The model.
        observed: The data.
        particles: Weighted rows of all latents.
        log_evidence: In nats; 0 where nothing is observed.
        log_evidence_standard_error: In nats; 0 if exact, nan if not known.
        ess: Effective sample size.
        k_hat: Pareto shape of the weights; nan where there is none.
        latents: Figures by the program's own name of a number.
        returned: The return value in its own shape, with figures at its leaves.
        cautions: What to know beside the figures.
        is_trusted: Whether the figures can be trusted.
        seconds: How long it took.
    """

    method: str
    why: str
    model: Model
    observed: Float[Tensor, " observed"]
    particles: Particles
    log_evidence: float
    log_evidence_standard_error: float
    ess: float
    k_hat: float
    latents: Mapping[str, Figures]
    returned: Any
    cautions: tuple[Caution, ...]
    is_trusted: bool
    seconds: float

    def summary(self) -> str:
        """Return the table of latents and return value, with how far to trust it."""
        console = Console(width=_TEXT_WIDTH, record=True, file=io.StringIO())
        console.print(inference_table(self.to_json(), "the latents"), highlight=False)
        return console.export_text()

    def save(self, path: Path | str) -> None:
        """Write `inference.json` and `particles.npz` into a folder, whole or not.

        Raises:
            FlowsError: If something else is in the place, or it cannot be written.
        """
        place = Path(path)
        check_folder_place(place, marker=ANSWER, own=OWN_FILES)
        with new_folder(place, marker=ANSWER, own=OWN_FILES) as folder:
            self.fill(folder)

    def fill(self, folder: Path) -> None:
        """Write `inference.json` and `particles.npz` into a folder that is there."""
        self.particles.save(folder / "particles.npz")
        save_summary(folder / ANSWER, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values; null stands for what is not finite."""
        return {
            "method": self.method,
            "why": self.why,
            "ok": self.is_trusted,
            "cautions": [str(caution) for caution in self.cautions],
            "log_evidence": {
                "value": _finite(self.log_evidence),
                "standard_error": _finite(self.log_evidence_standard_error),
            },
            "ess": _finite(self.ess),
            "num_particles": self.particles.num_particles,
            "khat": _finite(self.k_hat),
            "latents": {name: f.to_json() for name, f in self.latents.items()},
            "return": _plain(self.returned),
            "seconds": self.seconds,
        }


def infer(
    model: Model,
    observed: Mapping[str, Any] | Float[Tensor, " observed"] | None = None,
    *,
    method: str = "auto",
    flow: Proposal | None = None,
    budget: str | float | None = None,
    num_particles: int = 10_000,
    seed: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> Inference:
    """Return the posterior of a model given one data set.

    Args:
        model: Any model: discrete latents are summed out.
        observed: Data by name instead of the program's; or a row of them.
        method: One of `METHODS`.
        flow: A trained flow's proposal, which `auto` uses if it is good.
        budget: Most time, in seconds or as `10m`; what is not done by then is said.
        num_particles: Draws of importance sampling, and of an exact answer.
        seed: Decides every draw.
        on_progress: Called with the share that is done, and a note.

    Raises:
        ArgumentError: If there is no such method, or it cannot answer this model.
        ModelError: If the model or the data do not fit.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from flows import Model, infer
        >>> text = "(let [k (sample (poisson 3))] (observe (normal k 1) 5) k)"
        >>> with TemporaryDirectory() as folder:
        ...     place = Path(folder) / "count.daphne"
        ...     _ = place.write_text(text)
        ...     answer = infer(Model.compile(place))
        >>> answer.method, round(answer.log_evidence, 4), round(answer.returned.mean, 3)
        ('exact', -2.2313, 4.504)
    """
    started = time.perf_counter()
    seconds = math.inf if budget is None else seconds_of(budget)
    if method not in METHODS:
        raise ArgumentError(
            Problem("method", "not known", f"one of {', '.join(METHODS)}", method)
        )
    data = observed
    if not isinstance(data, Tensor):
        data = model.observation(data)
    widen = 1
    while True:
        has_discrete = any(v.is_discrete for v in model.layout.latents)
        target = collapse(model, widen=widen) if has_discrete else model
        run = _Run(
            model,
            target.forgiving(),
            data,
            num_particles,
            seed,
            on_progress,
            started,
            seconds,
        )
        found = _answered(run, method, flow)
        if widen >= _MOST_WIDE or not _is_cut_short(found, target):
            return found
        widen *= 4


def _answered(run: "_Run", method: str, flow: Proposal | None) -> Inference:
    """Return the answer by a method, chosen if it is auto."""
    model, target = run.model, run.target
    is_discrete = not target.layout.latents
    if method == "exact" and not is_discrete:
        names = ", ".join(v.label for v in target.layout.latents[:3])
        raise ArgumentError(
            Problem(
                "method exact",
                f"the model has continuous latents ({names})",
                "auto, smc or prior",
            )
        )
    if method == "flow" and flow is None:
        raise ArgumentError(
            Problem("method flow", "no trained flow is given", "an artifact")
        )
    if is_discrete and method in ("auto", "exact"):
        return run.exact()
    if not model.layout.observed:
        return run.prior("nothing is observed: draws of the prior")
    if method == "prior":
        return run.prior("as asked: importance sampling from the prior")
    if flow is not None and method in ("auto", "flow"):
        found = run.with_flow(flow, must=method == "flow")
        if found is not None:
            return found
    if method == "auto":
        found = run.pilot()
        if found is not None:
            return found
    start = run.start()
    if method == "laplace" or (method == "auto" and start.is_good):
        why = "draws around the modes carry enough weight: importance sampling"
        return run.around_modes(start, "as asked" if method == "laplace" else why)
    where = "the prior" if start.proposal is None else "the modes that were found"
    why = "as asked" if method == "smc" else "no proposal carries enough weight"
    return run.smc(start, f"{why}: tempered from {where}")


@dataclass(frozen=True, eq=False)
class _Start:
    """A proposal around the modes, and how good it is.

    Attributes:
        proposal: The proposal, the prior mixed in; None where no mode was found.
        particles: Weighted draws of it.
        is_good: Whether they carry enough weight.
    """

    proposal: Proposal | None
    particles: Particles | None
    is_good: bool


@dataclass(frozen=True, eq=False)
class _Run:
    """One question, and the ways to answer it."""

    model: Model
    target: Model | CollapsedModel
    observed: Tensor
    num_particles: int
    seed: int
    on_progress: Callable[[float, str], None] | None
    started: float
    budget_seconds: float

    # -------------------------------------------------------------- ways

    def exact(self) -> Inference:
        """Every figure by elimination."""
        if not isinstance(self.target, CollapsedModel):  # no latents at all
            return self._without_latents()
        posterior = ExactPosterior(self.target, self.observed)
        generator = torch.Generator().manual_seed(self.seed)
        value = posterior.log_evidence
        possible = value > -math.inf
        rows = posterior.sample(self.num_particles, generator=generator)
        weights = rows.new_full((len(rows),), 0.0 if possible else -math.inf)
        particles = Particles.from_draws(
            rows, weights, latent_columns(self.model.layout)
        )
        answer = _Exact(self.model, posterior, particles, self.observed)
        impossible = Caution(
            "the data have probability 0 under the program",
            "no value of the latents explains them, so there is no posterior",
            "Check the observations and the program",
        )
        return self._made(
            "exact",
            "all latents are discrete: summed out exactly",
            particles,
            value,
            0.0 if possible else math.nan,
            answer.latents() if possible else {},
            answer.returned() if possible else None,
            () if possible else (impossible,),
            is_trusted=possible,
        )

    def _without_latents(self) -> Inference:
        """The likelihood of a program without latents."""
        none = self.observed.new_zeros(1, 0)
        value = float(self.target.log_joint(none, self.observed))
        particles = Particles.from_draws(none, self.observed.new_zeros(1), ())
        return self._made(
            "exact",
            "the program has no latents",
            particles,
            value,
            0.0,
            {},
            self._returned(particles, None),
            (),
            is_trusted=True,
        )

    def prior(self, why: str) -> Inference:
        """Draws of the prior, weighted by the data."""
        return self._weighted(self._drawn(self.num_particles), why)

    def pilot(self) -> Inference | None:
        """The answer of draws of the prior, if they carry enough weight."""
        started = time.perf_counter()
        particles = self._drawn(max(_PILOT, self.num_particles))
        ess, num = particles.totals.ess, particles.num_particles
        seconds = time.perf_counter() - started
        if _HOPEFUL_ESS <= ess < _ENOUGH_ESS:
            wanted = math.ceil(1.5 * num * _ENOUGH_ESS / ess)
            if wanted * seconds / num < _PILOT_SECONDS and wanted <= _MOST_PILOT:
                particles = self._drawn(wanted)
        is_fine = particles.totals.ess >= _ENOUGH_ESS
        if not is_fine or pareto_k_hat(particles.log_weights) > K_HAT_LIMIT:
            return None
        why = "draws of the prior carry enough weight: importance sampling from it"
        return self._weighted(particles, why)

    def with_flow(self, flow: Proposal, *, must: bool) -> Inference | None:
        """The answer of a trained flow, if its draws carry enough weight."""
        particles = importance_particles(
            self.target, flow, self.observed, self.num_particles, seed=self.seed
        )
        is_fine = particles.totals.ess >= _ENOUGH_ESS
        is_fine = is_fine and pareto_k_hat(particles.log_weights) <= K_HAT_LIMIT
        if not (is_fine or must):
            return None
        why = "as asked" if must else "draws of the trained flow carry enough weight"
        return self._weighted(particles, why, method="flow")

    def start(self) -> _Start:
        """A proposal around the modes, refitted while that helps."""
        self._say(0.0, "looking for modes")
        generator = torch.Generator().manual_seed(run_seed(self.seed, 1_000_004))
        mixture = laplace_mixture(self.target, self.observed, generator=generator)
        if mixture is None:
            return _Start(None, None, is_good=False)
        best: _Start | None = None
        most = 0.0
        proposal = MixtureProposal(self.target, mixture)
        for turn in range(_REFITS):
            self._say(0.0, "weighing draws around the modes")
            prior = PriorProposal(self.target)
            defended = DefensiveMixture(proposal, prior, _PRIOR_SHARE)
            particles = importance_particles(
                self.target,
                defended,
                self.observed,
                self.num_particles,
                seed=run_seed(self.seed, 1_000_005 + turn),
                batch_size=_BATCH,
            )
            k_hat = pareto_k_hat(particles.log_weights)
            ess = particles.totals.ess
            good = ess >= _ENOUGH_ESS and k_hat <= K_HAT_LIMIT
            if best is None or ess > most:
                best, most = _Start(defended, particles, is_good=good), ess
            if best.is_good and ess >= _FINE_SHARE * self.num_particles:
                break
            if particles.totals.log_sum == -math.inf:
                break
            proposal = proposal.refitted(particles)
        assert best is not None  # noqa: S101 - there is one turn at least
        return best

    def around_modes(self, start: _Start, why: str) -> Inference:
        """Importance sampling from a proposal around the modes."""
        if start.particles is None:
            raise ArgumentError(
                Problem("method laplace", "no mode of the posterior was found", "smc")
            )
        return self._weighted(start.particles, why, method="laplace")

    def smc(self, start: _Start, why: str) -> Inference:
        """Particles tempered from a proposal to the posterior, in islands."""
        proposal = start.proposal or PriorProposal(self.target)
        space = FreeSpace(self.target, proposal, self.observed)
        results: list[SmcResult] = []
        reports: list[AnnealingReport] = []
        for island in range(_ISLANDS):
            for report in annealed_smc(
                space,
                _ISLAND_PARTICLES,
                seed=run_seed(self.seed, island),
                config=AnnealingConfig(move=Hamiltonian(_LEAPS)),
            ):
                reports.append(report)
                if time.perf_counter() - self.started > self.budget_seconds:
                    return self._out_of_time(start, report.temperature)
                self._say(
                    (island + report.temperature) / _ISLANDS,
                    f"temperature {report.temperature:.3g}",
                )
                if report.result is not None:
                    results.append(report.result)
        merged = merge_runs(results)
        error = merged.log_evidence_standard_error
        cautions = [*move_cautions(reports), *_apart(results)]
        particles = merged.particles
        ess = merged.ess
        is_trusted = not cautions and particles.totals.log_sum > -math.inf
        if not error <= LOG_EVIDENCE_ERROR_LIMIT:
            cautions.append(_unsure(error))
            is_trusted = False
        cautions += self._cuts(particles)
        full = self._completed(particles)
        return self._made(
            "smc",
            why,
            full,
            merged.log_evidence,
            error,
            self._latents(full, merged),
            self._returned(full, merged),
            tuple(cautions),
            is_trusted=is_trusted,
            ess=ess,
        )

    def _out_of_time(self, start: _Start, temperature: float) -> Inference:
        """What is known when the budget is used up, not to be trusted."""
        particles = start.particles or self._drawn(self.num_particles)
        answer = self._weighted(particles, "the budget was used up", method="smc")
        caution = Caution(
            f"the budget of {self.budget_seconds:g} s was used up at temperature "
            f"{temperature:.2g} of 1",
            "these are the weighted draws that tempering began with",
            "Allow more time",
        )
        cautions = (caution, *answer.cautions)
        return replace(answer, cautions=cautions, is_trusted=False)

    # -------------------------------------------------------------- parts

    def _say(self, share: float, note: str) -> None:
        if self.on_progress is not None:
            self.on_progress(share, note)

    def _drawn(self, num: int) -> Particles:
        if not self.model.layout.observed:
            generator = torch.Generator().manual_seed(self.seed)
            rows = self.target.sample_latents(
                num, generator=generator, observed=self.observed
            )
            bad = torch.isnan(rows).any(1)
            weights = torch.where(bad, -math.inf, rows.new_zeros(num))
            columns = latent_columns(self.target.layout)
            return Particles.from_draws(rows, weights, columns)
        proposal = PriorProposal(self.target)
        return importance_particles(
            self.target, proposal, self.observed, num, seed=self.seed
        )

    def _completed(self, particles: Particles) -> Particles:
        """Return the particles with their discrete latents drawn."""
        if not isinstance(self.target, CollapsedModel):
            return particles
        generator = torch.Generator().manual_seed(run_seed(self.seed, 1_000_003))
        alive = particles.log_weights > -math.inf
        full = particles.latents.new_zeros(
            particles.num_particles, self.model.layout.latent_dim
        )
        full[alive] = self.target.complete(
            particles.latents[alive], self.observed, generator=generator
        )
        columns = latent_columns(self.model.layout)
        return Particles.from_draws(full, particles.log_weights, columns)

    def _weighted(
        self, particles: Particles, why: str, method: str = "prior"
    ) -> Inference:
        totals = particles.totals
        is_prior = not self.model.layout.observed
        k_hat = math.nan if is_prior else pareto_k_hat(particles.log_weights)
        cautions = []
        meaning = self.target.has_meaning(particles.latents, self.observed)
        num_bad = int((~meaning).sum())
        if num_bad:
            cautions.append(_without_meaning(num_bad, particles.num_particles))
        bad = [] if is_prior else _weak(totals, k_hat)
        cautions += self._cuts(particles)
        full = self._completed(particles)
        return self._made(
            method,
            why,
            full,
            0.0 if is_prior else totals.log_evidence,
            0.0 if is_prior else totals.log_evidence_standard_error,
            self._latents(full, None),
            self._returned(full, None),
            (*bad, *cautions),
            is_trusted=not bad and totals.log_sum > -math.inf,
            k_hat=k_hat,
        )

    def _cuts(self, particles: Particles) -> list[Caution]:
        """Return a caution if a cut of an infinite support leaves mass out."""
        if not isinstance(self.target, CollapsedModel) or (
            not self.target.tables.truncated
        ):
            return []
        alive = particles.log_weights > -math.inf
        if not bool(alive.any()):
            return []
        out = self.target.left_out(particles.latents[alive], self.observed)
        mass = float(out @ particles.log_weights[alive].softmax(0))
        if mass < _LEAST_LEFT_OUT:
            return []
        names = ", ".join(
            self.model.layout.variable(n).label for n in self.target.tables.truncated
        )
        return [
            Caution(
                f"the cut of {names} leaves out {mass:.1e} of the prior's mass on "
                "average over the posterior",
                "the evidence is too small by about that share",
                "A prior with a smaller rate, or a bound, avoids the cut",
            )
        ]

    def _latents(
        self, particles: Particles, smc: SmcResult | None
    ) -> dict[str, Figures]:
        found: dict[str, Figures] = {}
        errors = None if smc is None else smc.standard_error(particles.latents)
        for variable in self.model.layout.latents:
            kind, categories = _kind_of(self.model, variable.name)
            for place, label in enumerate(variable.column_names):
                column = variable.start + place
                found[label] = figures_of(
                    particles.latents[:, column],
                    particles.log_weights,
                    mc_error=None if errors is None else float(errors[column]),
                    kind=kind,
                    categories=categories,
                )
        return found

    def _returned(self, particles: Particles, smc: SmcResult | None) -> Any:
        value = return_value(self.model.graph, self.model.layout)
        if value is None:
            return None
        columns = value.columns(particles.latents, self.observed)
        errors = None if smc is None else smc.standard_error(columns)

        def figures(leaf: Leaf) -> Figures:
            return figures_of(
                columns[:, leaf.column],
                particles.log_weights,
                mc_error=None if errors is None else float(errors[leaf.column]),
                kind=leaf.kind,
                categories=leaf.categories,
            )

        return _mapped(value.value, figures)

    def _made(
        self,
        method: str,
        why: str,
        particles: Particles,
        log_evidence: float,
        error: float,
        latents: Mapping[str, Figures],
        returned: Any,
        cautions: tuple[Caution, ...],
        *,
        is_trusted: bool,
        ess: float | None = None,
        k_hat: float = math.nan,
    ) -> Inference:
        return Inference(
            method,
            why,
            self.model,
            self.observed,
            particles,
            log_evidence,
            error,
            particles.totals.ess if ess is None else ess,
            k_hat,
            latents,
            returned,
            cautions,
            is_trusted,
            time.perf_counter() - self.started,
        )


@dataclass(frozen=True, eq=False)
class _Exact:
    """Figures of an exact posterior; of what reads too many latents from its draws."""

    model: Model
    posterior: ExactPosterior
    particles: Particles
    observed: Tensor

    def latents(self) -> dict[str, Figures]:
        found = {}
        for variable in self.model.layout.latents:
            rows, probabilities = self.posterior.joint([variable.name])
            kind, categories = _kind_of(self.model, variable.name)
            found[variable.label] = figures_of(
                rows[:, variable.start],
                probabilities.log(),
                mc_error=0.0,
                kind=kind,
                categories=categories,
            )
        return found

    def returned(self) -> Any:
        value = return_value(self.model.graph, self.model.layout)
        if value is None:
            return None
        return _mapped(value.value, lambda leaf: self._figures(value, leaf))

    def _figures(self, value: ReturnValue, leaf: Leaf) -> Figures:
        names = sorted(leaf.reads & set(self.posterior.collapsed.tables.discrete))
        error: float | None = 0.0
        if self.posterior.is_small(names):
            rows, probabilities = self.posterior.joint(names)
            weights = probabilities.log()
        else:
            rows, weights, error = (
                self.particles.latents,
                self.particles.log_weights,
                None,
            )
        columns = value.columns(rows, self.observed)
        return figures_of(
            columns[:, leaf.column],
            weights,
            mc_error=error,
            kind=leaf.kind,
            categories=leaf.categories,
        )


def _is_cut_short(found: Inference, target: Model | CollapsedModel) -> bool:
    """Whether the posterior of a latent with infinitely many values nears its cut."""
    if not isinstance(target, CollapsedModel):
        return False
    weights = found.particles.log_weights
    for name in target.tables.truncated:
        cut = target.tables.values[name][-1]
        values = found.particles.latents[:, found.model.layout.variable(name).start]
        if bool(((values >= _NEAR_CUT * cut) & (weights > -math.inf)).any()):
            return True
    return False


def _kind_of(model: Model, name: str) -> tuple[str, tuple[Any, ...]]:
    categories = model.categories(name)
    if categories:
        return "category", categories
    node = model.graph.node(name)
    if not node.is_discrete:
        return "real", ()
    families = {family.name for family in node.families}
    return ("boolean" if families == {"flip"} else "integer"), ()


def _mapped(value: Any, figures: Callable[[Leaf], Figures]) -> Any:
    match value:
        case Leaf():
            return figures(value)
        case tuple():
            return [_mapped(item, figures) for item in value]
        case dict():
            return {key: _mapped(item, figures) for key, item in value.items()}
    return value


def _plain(value: Any) -> Any:
    match value:
        case Figures():
            return value.to_json()
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case bool() | int() | str() | None:
            return value
        case float() if math.isfinite(value):
            return value
    return str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _weak(totals: Any, k_hat: float) -> list[Caution]:
    """Return why weights cannot be trusted."""
    found = []
    if totals.num_zero == totals.num_particles:
        found.append(
            Caution(
                f"none of {totals.num_particles} draws has a positive weight",
                "the estimated evidence is 0 and there is no posterior",
                "Check that the program can produce the data; or use --method smc",
            )
        )
    elif k_hat > K_HAT_LIMIT or totals.ess < _LEAST_ESS:
        found.append(
            Caution(
                f"the effective sample size is {totals.ess:.3g} of "
                f"{totals.num_particles} and Pareto k-hat {k_hat:.2f}",
                "rare particles rule every average",
                "Use --method smc",
            )
        )
    return found


def _without_meaning(num: int, of: int) -> Caution:
    return Caution(
        f"{num} of {of} draws give a distribution a parameter without meaning",
        "they weigh 0, as if the program excluded them",
        "Check that this is meant, a negative scale say",
    )


def _unsure(error: float) -> Caution:
    known = f"{error:.2f} nats" if math.isfinite(error) else "not known"
    return Caution(
        f"the standard error of the log evidence is {known}",
        "few of the first particles have descendants",
        "Draw more particles",
    )


def _apart(results: list[SmcResult]) -> list[Caution]:
    """Return a caution if the islands' evidences disagree."""
    values = [result.log_evidence for result in results]
    errors = [result.log_evidence_standard_error for result in results]
    known = [e for e in errors if math.isfinite(e)]
    spread = max(values) - min(values)
    error = math.sqrt(sum(e * e for e in known)) if known else LOG_EVIDENCE_ERROR_LIMIT
    if spread <= max(_MOST_APART * error, LOG_EVIDENCE_ERROR_LIMIT):
        return []
    return [
        Caution(
            f"independent islands differ by {spread:.2f} nats in the log evidence",
            "some of them have missed a part of the posterior",
            "Draw more particles, and compare other seeds",
        )
    ]
