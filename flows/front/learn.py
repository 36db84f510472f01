"""This file is `learn`: from a model and rows of data to the parameters they share.

Where latents of a row are discrete, or there are none, the likelihood is exact. Others
are averaged over by weighted draws: around the modes of each row's posterior where
these serve, else of a flow that is trained once, on the model with its prior over the
parameters, for any parameters and any row.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InferenceError
from ..inference.cautions import Caution
from ..inference.smc.annealing import AnnealingReport
from ..inference.smc.forgetting import move_cautions
from ..inference.smc.result import SmcResult, run_seed
from ..learning.ascent import Round, ascend, climb, start
from ..learning.coordinates import UnitCoordinates
from ..learning.errors import Errors, errors_at
from ..learning.likelihood import Drawing, FlowDrawing, Likelihood, NoLatents
from ..learning.modes import ModeDrawing, nats_missed
from ..learning.parted import PartedModel
from ..learning.posterior import tempered_parameters
from ..model.model import Model
from ..training.state import Report
from .arguments import seed_of
from .clock import Clock, OutOfTime
from .figures import Figures, figures_of
from .learned import Estimate, Learned
from .learning_doubts import learning_doubts, mass_left_out, modes_missed, not_given
from .learning_method import method_for
from .posterior import Posterior
from .rows import Rows, rows_of
from .settings import AUTO, Settings, check_model, seconds_of
from .train import train

__all__ = ["learn"]

_FLOW_SHARE = 0.5
_CLIMB_SHARE = 0.5
_ERRORS_SHARE = 0.15
"""Of the budget, left for standard errors."""
_CLIMB_STEPS = 500
_PARTICLES = 400


def learn(
    model: Model,
    data: Rows,
    parameters: Sequence[str],
    *,
    method: str = "auto",
    budget: str | float = "10m",
    seed: int = 0,
    kind: str = AUTO,
    config: Settings = None,
    posterior: bool = False,
    on_progress: Callable[[float, str], None] | None = None,
) -> Learned:
    """Return the parameters under which rows of data and the prior are likeliest.

    The rows are independent runs of the program at the same parameters. What comes back
    is where p(parameters) Π p(row | parameters) is largest, with standard errors, and
    the model in which the parameters are constants.

    Args:
        model: The model; its own data count only for nodes that rows leave out.
        data: Values of the observed nodes, row by row.
        parameters: Names of latents that depend on no others but parameters; `w` stands
            for all of `w[0]`, `w[1]`, ...
        method: exact, laplace for draws around the modes of each row, flow, or auto for
            what the latents of a row allow; with a kind or settings it is flow.
        budget: Most time by the wall clock, in seconds or such as `10m`; half of it
            trains the flow, if there is one.
        seed: Decides every draw.
        kind: Of flow (`flow.kinds.KINDS`).
        config: Settings of the flow's training, whose budget then counts.
        posterior: Whether the parameters' posterior is sampled as well.
        on_progress: Called with the share that is done, and a note.

    Raises:
        FlowsError: If names or data do not fit the model, or an argument is wrong.

    Example:
        >>> import flows
        >>> program = "(let [m (sample (normal 0 9))] (observe (normal m 1) 0) m)"
        >>> model = flows.Model.from_program(program)
        >>> rows = [{"observe1": 1.0}, {"observe1": 2.0}]
        >>> learned = flows.learn(model, rows, ["m"])
        >>> round(learned.parameters["m"].value, 3), learned.model.graph.latents
        (1.491, ())
    """
    check_model(model)
    seed = seed_of(seed)
    clock = Clock(seconds_of(budget), on_progress)
    parted = PartedModel.of(model, parameters)
    rows, left_out = rows_of(model, data)
    likelihood = Likelihood(parted, rows)
    if method == "auto" and (kind != AUTO or config is not None):
        method = "flow"
    chosen, why = method_for(likelihood, method, seed)
    drawing: Drawing = NoLatents()
    if chosen == "laplace":
        drawing = ModeDrawing(parted)
    elif chosen == "flow":
        trained = _trained(parted, clock, seed=seed, kind=kind, config=config)
        drawing = FlowDrawing(parted, trained.flow)
    found = _climbed(likelihood, drawing, clock, seed)
    clock.say(0.9, "standard errors")
    errors = errors_at(found)
    there = found.surface.at(found.place)
    effective = found.surface.ess(found.place)
    ess = (float(effective.median()), float(effective.quantile(0.05)))
    values = found.surface.coordinates.values(found.place).detach()
    doubts = learning_doubts(found, errors, ess[1])
    if chosen == "laplace":
        generator = torch.Generator().manual_seed(run_seed(seed, 1_000_015))
        missed = nats_missed(likelihood, values, generator=generator)
        doubts += modes_missed(missed)
    sampled: SmcResult | None = None
    cautions: list[Caution] = []
    if posterior:
        sampled, cautions = _sampled(found, errors, clock, seed)
        doubts += cautions if sampled is None else []
    return Learned(
        chosen,
        why,
        parted.learned(values),
        _estimates(parted, values, errors, sampled),
        errors.covariance,
        errors.source,
        there.log_likelihood,
        there.log_prior,
        len(likelihood.data),
        found.surface.draws.num,
        ess,
        found.number,
        found.is_top,
        None if sampled is None else sampled.particles,
        tuple(
            dict.fromkeys(
                [
                    *doubts,
                    *cautions,
                    *mass_left_out(found),
                    *not_given(model, len(rows), left_out),
                ]
            )
        ),
        not doubts,
        clock.passed,
    )


def _trained(
    parted: PartedModel, clock: Clock, *, seed: int, kind: str, config: Settings
) -> Posterior:
    """Return a flow of the rows' latents for any parameters and data."""

    def say(report: Report) -> None:
        clock.say(_FLOW_SHARE * report.fraction, f"training, loss {report.loss:.3g}")

    return train(
        parted.rows,
        budget=_FLOW_SHARE * clock.seconds if config is None else None,
        seed=seed,
        kind=kind,
        config=config,
        on_report=say,
    )


def _climbed(
    likelihood: Likelihood, drawing: Drawing, clock: Clock, seed: int
) -> Round:
    """Return the last round of the ascent that there was time for."""
    generator = torch.Generator().manual_seed(run_seed(seed, 1_000_012))
    coordinates = UnitCoordinates.of(likelihood.parted.prior)
    errors = _ERRORS_SHARE * clock.seconds
    place = start(
        likelihood,
        coordinates,
        drawing,
        generator=generator,
        is_over=lambda: clock.left < 0.5 * clock.seconds * (1.0 - _FLOW_SHARE),
    )
    least = clock.left * (1.0 - _CLIMB_SHARE)
    steps = climb(
        likelihood,
        coordinates,
        drawing,
        place,
        _CLIMB_STEPS if isinstance(drawing, FlowDrawing) else 0,
        generator=generator,
        is_over=lambda: clock.left < least,
    )
    for number, step in enumerate(steps, 1):
        place = step
        share = _FLOW_SHARE + 0.1 * number / _CLIMB_STEPS
        clock.say(share, f"climbing, step {number}")
    rounds = ascend(
        likelihood,
        coordinates,
        drawing,
        place,
        generator=generator,
        is_over=lambda: clock.left < errors,
    )
    for found in rounds:
        if found.is_top or clock.left < errors:
            break
        clock.say(0.6, f"round {found.number}, moved {found.moved:.2g} errors")
    return found


def _sampled(
    found: Round, errors: Errors, clock: Clock, seed: int
) -> tuple[SmcResult | None, list[Caution]]:
    """Return particles of the parameters, and what to know of them."""
    reports: list[AnnealingReport] = []
    try:
        for report in tempered_parameters(
            found,
            errors,
            _PARTICLES,
            seed=run_seed(seed, 1_000_013),
            check=clock.check,
        ):
            reports.append(report)
            clock.say(0.9 + 0.1 * report.temperature, "particles of the parameters")
    except (OutOfTime, InferenceError) as error:
        caution = Caution(
            "particles of the parameters did not come to their posterior"
            + (f" ({error})" if str(error) else ""),
            "it is not known",
            "Allow more time by --budget",
        )
        return None, [caution]
    return reports[-1].result, list(move_cautions(reports))


def _estimates(
    parted: PartedModel,
    values: Float[Tensor, " parameter"],
    errors: Errors,
    sampled: SmcResult | None,
) -> dict[str, Estimate]:
    deviations = errors.covariance.diagonal().sqrt()
    for number in errors.flat:
        deviations[number] = math.nan
    added = errors.noise.diagonal().clamp_min(0.0).sqrt()
    rows = zip(
        parted.labels,
        values.tolist(),
        deviations.tolist(),
        added.tolist(),
        [None] * len(values) if sampled is None else _posteriors(sampled),
        strict=True,
    )
    return {name: Estimate(*figures) for name, *figures in rows}


def _posteriors(sampled: SmcResult) -> list[Figures]:
    """Return the figures of each parameter's posterior."""
    particles, errors = sampled.particles, sampled.mean_standard_error().tolist()
    return [
        figures_of(column, particles.log_weights, mc_error=error)
        for column, error in zip(particles.latents.T, errors, strict=True)
    ]
