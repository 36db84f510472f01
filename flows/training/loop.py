r"""This file fits a flow to a model: an iterator of small reports.

The phases of `phases.py` share a budget of seconds of work or of iterations. Steps are
Adam's, with half a cosine of learning rates, clipped gradients, an average of the
weights, and larger batches at the end. The clock is read only while working: time
between reports does not count, and a resumed run counts what was spent before.

From time to time J is certified (`certification.py`) for the averaged weights, on the
same draws each time; the weights with the lowest score, a mean of its terms or of the
objective's in which rows far out are held, are the result, and are gone on from, with
half the learning rate, where the score has risen far. If J with N and with 2N solver
steps part, N is raised.

A loss or gradient that is not finite takes the run back to the state of its last report
with half the learning rate, and a report says so; after `_MAX_ROLLBACKS` of them in a
row the run ends with the best weights so far.

Several processes may share a run (`processes.py`): each draws the same batches, takes
its own rows of each, and the gradients add up, so that the run is that of one process
up to the order of additions, and may be resumed by another number of processes.

A run is resumed from a `TrainingState`, which holds tensors and plain values only. Two
runs with equal seeds and iteration budgets are equal bit by bit on one machine,
interrupted or not.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..flow.kinds import finer, is_solved
from ..flow.protocol import Flow, Matched
from .batches import Judged, TargetModel
from .certification import Measured, measured, solver_bias
from .config import TrainingConfig
from .decisions import (
    due_phase,
    has_risen,
    is_certification_due,
    is_look_due,
    looked_at,
    rolled_back,
    turned_back,
    why_ended,
    with_steps,
)
from .economy import certified_in_time
from .event import Event
from .phases import PHASES, fraction, learning_rate, objective_of
from .processes import ALONE, Ranks
from .run import Run
from .state import DONE, Progress, Report, TrainingState
from .steps import batches_of, step
from .weights import FlatWeights

__all__ = ["Fit", "fit"]

_NEAR_NATS = 0.5
_MAX_ROLLBACKS = 20
_FINISHING = 1.3
"""Times the last certification: it, and what writes the flow down."""


def fit(
    model: TargetModel,
    flow: Flow,
    config: TrainingConfig,
    *,
    seed: int,
    state: TrainingState | None = None,
    held_out: TargetModel | None = None,
    is_trained: bool = False,
    ranks: Ranks = ALONE,
    clock: Callable[[], float] = time.perf_counter,
    started: float | None = None,
) -> "Fit":
    """An iterator of reports; the flow holds the best weights when it ends.

    Args:
        model: the target.
        flow: changed in place, normalisation included; how it is solved in training is
            its own affair (`flow.kinds.solved_with`).
        config: all numbers.
        seed: of every draw.
        state: of a run with the same model, structure, configuration and seed that is
            to be continued.
        held_out: draws that certify the flow; the model's own if None.
        is_trained: whether the flow goes on from where it is: its normalisation stays,
            and there is no warm start.
        ranks: the processes that share the rows of each batch.
        clock: seconds, for the budget.
        started: when the work that the budget is for began, by that clock; now if None.

    Raises:
        ArgumentError: if the objective needs a density that the model has not, there
            are more processes than rows of a batch, or the state is of another run.
    """
    least = min(
        config.batch_size, config.final_batch_size, config.warm_start_batch_size
    )
    if least < ranks.size:
        raise ArgumentError.at(
            "batch_size",
            "fewer rows than processes",
            f"at least {ranks.size}",
            f"{least}",
        )
    if config.objective != "forward" and not model.has_density:
        raise ArgumentError.at(
            "objective",
            "the model has draws but no density",
            "forward",
            config.objective,
        )
    run = Run(
        Judged.of(model),
        Judged.of(model if held_out is None else held_out),
        flow,
        config,
        ranks,
        torch.Generator().manual_seed(seed),
        FlatWeights(flow),
    )
    shared = partial(ranks.shared, clock)
    begun = shared() if started is None else ranks.shared(lambda: started)
    return Fit(run, seed, state, is_trained=is_trained, clock=shared, started=begun)


class Fit(Iterator[Report]):
    """A running fit. See `fit`."""

    def __init__(
        self,
        run: Run,
        seed: int,
        state: TrainingState | None,
        *,
        is_trained: bool,
        clock: Callable[[], float],
        started: float,
    ) -> None:
        self._run, self._clock, self._started = run, clock, started
        if state is None:
            if not is_trained:
                _normalise(run)
            run.weights.restart()
            is_cold = isinstance(run.flow, Matched) and not is_trained
            first = "warm start" if is_cold else "training"
            state = run.state(Progress(seed, run.config.num_steps, first))
        self._keep(run.restored(run.ranks.shared(lambda: state), seed))

    def state(self) -> TrainingState:
        """The state at the last report, to be resumed from."""
        return self._kept

    def best_state_dict(self) -> dict[str, Tensor]:
        """State of the flow with the best certified weights so far."""
        run = self._run
        return run.weights.state_dict_with(run.flow, run.result(self._progress))

    def __iter__(self) -> "Fit":
        return self

    def __next__(self) -> Report:
        if self._progress.phase == DONE:
            raise StopIteration
        self._started = self._clock()
        event = self._period(self._progress)
        seconds = self._seconds(event.progress)
        used = fraction(self._run.config, event.progress, seconds)
        report = event.report(used, seconds)
        self._keep(event.progress)
        return report

    def _keep(self, progress: Progress) -> None:
        """Ends the work on a report."""
        self._progress = replace(progress, seconds=self._seconds(progress))
        self._kept = self._run.state(self._progress)

    def _seconds(self, progress: Progress) -> float:
        """Seconds of work so far."""
        return progress.seconds + self._clock() - self._started

    def _period(self, progress: Progress) -> Event:
        """The next period, up to its report."""
        if progress.certifications == 0:
            return self._certified(progress, "before training")
        run, config = self._run, self._run.config
        due = due_phase(config, progress, self._seconds(progress))
        if due != progress:
            run.weights.restart()
            return self._certified(due, "certified: the warm start is over")
        phase = PHASES[progress.phase]
        flow = run.solved(progress.num_steps)
        batches = batches_of(run, phase, progress)
        total, count, rate = 0.0, 0, 0.0
        for batch in batches:
            rate = learning_rate(phase, config, progress, self._seconds(progress))
            loss = step(run, flow, phase, batch, progress, rate)
            if not math.isfinite(loss):
                return self._rolled_back(progress, loss, rate)
            total, count = total + loss, count + 1
            progress = replace(progress, iteration=progress.iteration + 1)
            if fraction(config, progress, self._seconds(progress)) >= 1.0:
                break
        mean = total / max(count, 1)
        progress = replace(progress, rollbacks=0)
        if progress.phase != "training":
            return Event(progress, "ok", mean, rate)
        nats = _NEAR_NATS * len(flow.structure.blocks)
        progress = replace(progress, is_near=mean <= nats)
        bias, note = None, ""
        if is_solved(flow):
            bias = run.ranks.shared(
                lambda: solver_bias(run.model, flow, finer(flow, 2), batches[-1])
            )
            progress, note = with_steps(
                config, progress, bias, bias.fine, has_j=run.has_j
            )
        if is_certification_due(config, progress, self._seconds(progress)):
            return self._certified(progress, f"certified{note}", mean, rate)
        return Event(progress, f"ok{note}", mean, rate, bias=bias)

    def _rolled_back(self, progress: Progress, loss: float, rate: float) -> Event:
        """Back to the last report's state; the generator keeps its place."""
        config = self._run.config
        self._run.weights.restore(self._kept.tensors)
        back, note = turned_back(config, rolled_back(self._progress))
        if back.rollbacks >= _MAX_ROLLBACKS:
            end = f"ended: {back.rollbacks} rollbacks in a row"
            return self._finished(Event(back, end, loss, rate))
        status = (
            "rolled back: loss or gradient not finite at iteration "
            f"{progress.iteration}; learning rate times {back.rate_factor:g}{note}"
        )
        return Event(back, status, loss, rate)

    def _certified(
        self,
        progress: Progress,
        status: str,
        loss: float = math.nan,
        rate: float = 0.0,
    ) -> Event:
        """Certifies the averaged weights, keeps the best, watches the solver."""
        run, config = self._run, self._run.config
        average = run.average(progress)
        found, lasted, draws = self._measured(progress, average)
        reserve = _FINISHING * lasted
        progress = replace(progress, certify_draws=draws, reserve=reserve)
        seconds = self._seconds(progress)
        if draws < config.certify_draws:
            status += f"; by {draws} draws only, as time is short"
        due = 0.0
        if progress.phase == "training":
            share = PHASES["training"].share(config, progress, seconds)
            due = share * config.num_certifications
        now = replace(
            progress, certifications=1 + max(progress.certifications, int(due))
        )
        value = found.value
        matched = is_solved(run.flow)
        if is_look_due(config, self._progress, now, seconds, is_solved=matched):
            now, note = looked_at(config, now, found)
            status += note
        score = found.score(objective_of(config, now))
        figures = (score, value.mean, value.standard_error)
        is_sound = all(map(math.isfinite, figures))
        if is_sound:
            now = replace(now, last=score)
        if is_sound and (now.best_score is None or score < now.best_score):
            now = replace(
                now,
                best=value.mean,
                best_score=score,
                best_error=value.standard_error,
                best_ess=found.ess,
                best_lost=value.num_non_finite / value.num_terms,
                best_seconds=seconds,
            )
            run.weights.best.copy_(average)
        elif has_risen(self._progress, score) and run.has_j:
            run.weights.go_back()
            now = replace(now, last=now.best_score, rate_factor=0.5 * now.rate_factor)
            status = f"rolled back: the objective has risen to {score:.3g} nats"
        if found.bias is not None:
            now, note = with_steps(config, now, found.bias, value.mean, has_j=run.has_j)
            status += note
        upper = value.mean + 2.0 * value.standard_error
        if value.num_non_finite:
            upper = math.inf
        end = why_ended(config, now, seconds, upper if run.has_j else math.inf)
        if not len(run.weights.values):
            end = end or "ended: the flow has nothing to train"
        event = Event(now, end or status, loss, rate, found=found)
        return self._finished(event) if end else event

    def _measured(
        self, progress: Progress, weights: Tensor
    ) -> tuple[Measured, float, int]:
        """What certifies some weights, its seconds, its draws."""
        run, config = self._run, self._run.config
        flow = copy.deepcopy(run.flow)
        flow.load_state_dict(run.weights.state_dict_with(flow, weights))

        def certify(num_draws: int) -> tuple[Measured, float]:
            started = self._clock()
            found = run.ranks.shared(
                lambda: measured(
                    run.model,
                    flow,
                    config,
                    held_out=run.held_out,
                    num_steps=progress.num_steps,
                    num_draws=num_draws,
                    # the same each time, and apart from the draws of training
                    generator=torch.Generator().manual_seed(progress.seed + 1_000_003),
                )
            )
            return found, self._clock() - started

        draws = progress.certify_draws
        if draws:
            return *certify(draws), draws
        return certified_in_time(config, certify)

    def _finished(self, event: Event) -> Event:
        """The last event; the flow has the best weights."""
        run, progress, status = self._run, event.progress, event.status
        if progress.best is None:
            status += "; no certified estimate was finite"
        result = run.result(progress)
        run.weights.best.copy_(result)
        run.flow.load_state_dict(run.weights.state_dict_with(run.flow, result))
        last = replace(progress, phase=DONE, status=status)
        return replace(event, progress=last, status=status)


def _normalise(run: Run) -> None:
    """Fits what is fixed before training to draws of the model."""
    model = run.model
    draws = model.sample(run.config.normalisation_draws, generator=run.generator)
    run.flow.fit_normalisation(model.unconstrain(draws.latents)[0], draws.observed)
