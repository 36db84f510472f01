"""This file answers by sequential Monte Carlo, in islands that are compared."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest

import torch

from ..errors import InferenceError
from ..inference.cautions import LOG_EVIDENCE_ERROR_LIMIT, Caution
from ..inference.proposal import PriorProposal, Proposal
from ..inference.smc.annealing import (
    AnnealingReport,
    AnnealingState,
    init,
    linger,
    step,
)
from ..inference.smc.config import AnnealingConfig
from ..inference.smc.coordinates import FreeSpace, Space, WatchedSpace
from ..inference.smc.edges import EdgeMoves
from ..inference.smc.forgetting import move_cautions
from ..inference.smc.interwoven import InterwovenMoves
from ..inference.smc.mirrors import MirrorMoves, mirrors_of
from ..inference.smc.moves import Hamiltonian
from ..inference.smc.relaxed import RelaxedSpace, relaxed, settled
from ..inference.smc.result import SmcResult, run_seed
from ..inference.smc.sites import Site, SiteMoves, SiteSpace
from ..inference.smc.slices import MOST_SLICED, SliceMoves
from ..marginal.collapsed import CollapsedModel
from ..marginal.sites import sites_of
from ..model.model import Model
from .answer import Inference
from .clock import OutOfTime
from .doubts import apart, few, left_out, lost_on_the_way, unsure
from .edges import held_columns, tempered_edge_doubts
from .islands import Island, Islands
from .lost_digits import lost_digits
from .question import Question
from .start import Start, coordinates
from .targets import Target
from .weighed import weighted

__all__ = ["tempered"]

_ISLANDS = 2
_SHARE = 0.1
"""Of the draws that were asked for: lines of each island."""
_LEAST_PARTICLES = 200
_CONFIG = AnnealingConfig(move=Hamiltonian(16), cess_fraction=0.7)
_MOST_INTERWOVEN = 12
"""Coordinates that are sliced before each move; each costs some five densities."""
_MOST_ROUNDS = 200
"""So often particles are moved further at the end, to know means better."""

_STALE = 4
"""So many times particles from around the modes forget before they count: what is
slow has hardly been reached at first, and correlations do not tell of it. Once where
weighted draws from there all but serve."""

_FAR = 0.2
"""Particles whose first temperature is above this begin near the posterior."""

_IDLE = (3.0, 0.1)
"""So many times the places that did not add this share to what is known: no more."""

_TRIED = 200
_TRIAL = replace(_CONFIG, cess_fraction=0.5, most_moves=6)


def tempered(question: Question, start: Start | None, why: str) -> Inference:
    """Particles tempered to the posterior, in islands.

    Args:
        question: What was asked.
        start: What they are tempered from, and weighted draws to show where the budget
            is used up; the prior if None.
        why: Why this method.
    """
    reached = 0.0
    told: list[list[AnnealingReport]] = [[] for _ in range(_ISLANDS)]
    try:
        question.clock.check()
        name, space, config = _space(question, start)
        stale = 0 if start is None else _stale(start)
        ways = [_island(question, space, config, n, stale) for n in range(_ISLANDS)]
        for number, way in enumerate(ways):
            reached = 0.0
            while reached < 1.0:
                report = next(way)
                told[number].append(report)
                if reached == 0.0 and _is_lost(start, report):
                    found = "from around the modes moves lead nowhere"
                    return tempered(question, None, f"{why}; {found}: from the prior")
                reached = report.temperature
                share = (number + reached) / _ISLANDS
                question.clock.say(share, f"temperature {reached:.3g}")
        # In turn: what one island takes longer must not be the other's time.
        for turn in zip_longest(*ways):
            for reports, report in zip(told, turn, strict=True):
                reports += [report] if report else []
    except OutOfTime:
        ended = [reports for reports in told if reports and reports[-1].result]
        caution = Caution(
            f"the budget of {question.clock.seconds:g} s was used up at temperature "
            f"{reached:.2g} of 1",
            "these are the particles of one island, compared with no other; they may "
            "not yet have moved far from where they began"
            if ended
            else "these are the weighted draws that tempering began with",
            "Allow more time by --budget",
        )
        if ended:
            alone = Islands(name, tuple(map(_ended, ended)))
            return _answer(question, start, alone, why).doubted(caution)
        return _given_up(question, start, "the budget was used up", caution)
    except InferenceError as error:
        found = "; ".join(problem.what for problem in error.problems)
        caution = Caution(
            f"tempering found no way from the prior to the posterior ({found})",
            "these are the weighted draws that it began with",
            "More draws of the prior (--method prior --num-particles), a likelihood "
            "that is less sharp, or data that the prior draws, help",
        )
        return _given_up(question, start, "tempering ended early", caution)
    islands = Islands(name, tuple(map(_ended, told)))
    return _answer(question, start, islands, why)


def _ended(reports: list[AnnealingReport]) -> Island:
    """Return an island at its end."""
    result = reports[-1].result
    assert result is not None  # noqa: S101 - the last report carries it
    return Island(result, tuple(reports))


def _space(
    question: Question, start: Start | None
) -> tuple[str, Space, AnnealingConfig]:
    """Return coordinates, where particles start and how they move.

    They start around the modes where there is something to start from; else from the
    prior, in the coordinates in which a few particles forget with less work.
    """
    target = question.target

    def of(proposal: Proposal, model: Target) -> Space:
        return WatchedSpace(
            FreeSpace(model, proposal, question.observed), question.clock.check
        )

    sites = _sites(question)
    if sites:
        config = replace(_CONFIG, move=SiteMoves(sites, _CONFIG.move))
        return "free", SiteSpace(of(PriorProposal(target), target), sites), config
    if start is None and isinstance(target, Model):
        generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_013))
        space = relaxed(of(PriorProposal(target), target), generator=generator)
        if isinstance(space, RelaxedSpace):
            return "free", space, _in_slices(_mirrored(question, target), target)
    models = coordinates(target)
    begun = None if start is None else start.around
    spaces = {
        name: of(begun or PriorProposal(each), each) for name, each in models.items()
    }
    if len(spaces) == 1:
        return "free", spaces["free"], _mirrored(question, target)
    if start is not None:
        name = start.coordinates
    else:
        question.clock.say(0.0, "comparing coordinates")
        work = {name: _work(question, space) for name, space in spaces.items()}
        name = min(work, key=work.__getitem__)
    config = _mirrored(question, models[name])
    (other,) = spaces.keys() - {name}
    return name, spaces[name], _interwoven(config, models, spaces, name, other)


def _sites(question: Question) -> tuple[Site, ...]:
    """Return the coordinates that are counted; none if there is none."""
    target = question.target
    if not isinstance(target, CollapsedModel):
        return ()
    return sites_of(target, question.observed)


def _interwoven(
    config: AnnealingConfig,
    models: dict[str, Target],
    spaces: dict[str, Space],
    own: str,
    other: str,
) -> AnnealingConfig:
    """Return moves in the other coordinates too, of what locates other latents."""
    target = models[own]
    columns = target.coordinates.locating if isinstance(target, Model) else ()
    if not columns or len(columns) > _MOST_INTERWOVEN:
        return config
    move = InterwovenMoves(target, spaces[other], models[other], columns, config.move)
    return replace(config, move=move)


def _mirrored(question: Question, model: Target) -> AnnealingConfig:
    """Return the moves of a model, to mirror images where it is symmetric."""
    generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_012))
    columns = mirrors_of(model, question.observed, generator=generator)
    config = _configured(model)
    if not columns:
        return config
    return replace(config, move=MirrorMoves(columns, config.move))


def _in_slices(config: AnnealingConfig, target: Target) -> AnnealingConfig:
    """Return moves by slices too, which need no slope; unless coordinates are many."""
    if target.layout.free_dim > MOST_SLICED:
        return config
    return replace(config, move=SliceMoves(config.move))


def _configured(target: Target) -> AnnealingConfig:
    """Return the usual moves, of particles at the edge too."""
    return replace(_CONFIG, move=EdgeMoves(target, held_columns(target), _CONFIG.move))


def _work(question: Question, space: Space) -> float:
    """Return how many leaps a few particles need to forget on their way."""
    generator = torch.Generator().manual_seed(run_seed(question.seed, 1_000_011))
    state = init(space, _TRIED, _TRIAL, generator)
    work = 0.0
    while state.temperature < 1.0:
        state, report = step(state, space, _TRIAL, generator)
        kept = min(max(report.correlation, _TRIAL.correlation), 0.999)
        factor = math.log(_TRIAL.correlation) / math.log(kept)
        leaps = math.pi / report.stage.step_size
        work += report.stage.num_moves * factor * min(max(leaps, 1.0), 16.0)
    return work


def _island(
    question: Question,
    space: Space,
    config: AnnealingConfig,
    number: int,
    stale: int,
) -> Iterator[AnnealingReport]:
    """Yield reports up to the posterior, and there until means are known.

    From around the modes particles come with too little in a funnel's neck or a tail:
    those count that have forgotten where they were `stale` times.
    """
    seed = run_seed(question.seed, number)
    generator = torch.Generator().manual_seed(seed)
    num = max(_LEAST_PARTICLES, math.ceil(_SHARE * question.num_particles))
    state = init(space, num, config, generator)
    while state.temperature < 1.0:
        state, report = step(state, space, config, generator)
        if isinstance(space, RelaxedSpace) and state.temperature == 1.0:
            state, report = settled(state, report, space, config, generator)
            space = space.space
        config = _sliced(config, state, report)
        yield report
    first: SmcResult | None = None
    for _ in range(_MOST_ROUNDS):
        result = report.result
        assert result is not None  # noqa: S101 - the last report carries it
        is_known = result.least_ess >= question.target_ess / _ISLANDS
        if not stale:
            # Where lines are too few to know errors, more places do not tell them.
            first = first or result
            if is_known or _is_idle(first, result) or not result.has_known_errors:
                return
        try:
            state, report = linger(state, space, config, generator, anew=stale > 0)
        except OutOfTime:
            return
        stale = max(stale - 1, 0)
        yield report


def _is_lost(start: Start | None, first: AnnealingReport) -> bool:
    """Return whether particles from around the modes do not get away from there.

    The prior's draws reach many modes apart (topics, whose names do not matter) sooner.
    Of many coordinates some are always slow.
    """
    if start is None or first.temperature > _FAR:
        return False
    is_narrow = start.around.mixture.locations.shape[1] <= MOST_SLICED
    return is_narrow and first.correlation > _CONFIG.correlation


def _stale(start: Start) -> int:
    """Return how often particles from around the modes forget before they count."""
    return 1 if start.is_good else _STALE


def _sliced(
    config: AnnealingConfig, state: AnnealingState, report: AnnealingReport
) -> AnnealingConfig:
    """Return moves by slices too, once the others do not forget as they should.

    Counted coordinates have moves that need no width.
    """
    is_narrow = state.point.coordinates.shape[1] <= MOST_SLICED
    is_stuck = report.correlation > config.correlation
    if isinstance(config.move, SliceMoves | SiteMoves) or not (is_narrow and is_stuck):
        return config
    return replace(config, move=SliceMoves(config.move))


def _is_idle(first: SmcResult, now: SmcResult) -> bool:
    """Return whether many more places did not make means better known."""
    more, share = _IDLE
    places = now.particles.num_particles / first.particles.num_particles
    gain = now.least_ess / first.least_ess - 1.0
    return places >= more and gain < share * (places - 1.0)


def _answer(
    question: Question, start: Start | None, islands: Islands, why: str
) -> Inference:
    merged = islands.merged
    particles = merged.particles
    if particles.totals.log_sum == -math.inf:
        return weighted(question, particles, why, method="smc")
    error = islands.log_evidence_standard_error
    reports = [report for island in islands.islands for report in island.reports]
    bad = apart(islands)
    if not error <= LOG_EVIDENCE_ERROR_LIMIT:
        bad.append(unsure(error))
    bad += tempered_edge_doubts(
        question.target,
        question.observed,
        particles,
        reports,
        seed=question.seed,
        from_prior=start is None,
        is_held=not _sites(question),
    )
    bad += lost_digits(question, particles)
    ended = [report for report in reports if report.temperature == 1.0]
    # What moves at the end has forgotten where it was stuck on the way.
    has_moved = not move_cautions(ended)
    cautions = [
        *bad,
        *move_cautions(reports),
        *few(merged.least_ess, question),
        *left_out(question, particles),
        *lost_on_the_way(question.target, question.observed, question.seed),
    ]
    full = question.completed(particles)
    return question.answered(
        "smc",
        why,
        lambda: full,
        merged.log_evidence,
        error,
        question.latents(full, merged),
        question.returned(full, merged),
        tuple(cautions),
        is_trusted=has_moved and not bad,
        num_particles=full.num_particles,
        ess=merged.least_ess,
        islands=islands,
    )


def _given_up(
    question: Question, start: Start | None, why: str, caution: Caution
) -> Inference:
    """What is known where tempering does not come to its end, not to be trusted."""
    drawn = question.drawn(question.num_particles) if start is None else start.particles
    return weighted(question, drawn, why, method="smc").doubted(caution)
