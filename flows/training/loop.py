r"""This file fits a flow to a model: an iterator of small reports.

The phases of `phases.py` share a budget of seconds of work or of iterations. Steps are
Adam's, with half a cosine of learning rates, clipped gradients, an average of the
weights, and larger batches at the end. The clock is read only while working: time
between reports does not count, and a resumed run counts what was spent before.

From time to time J is certified (`certification.py`) for the averaged weights, on the
same draws each time; the weights with the lowest finite certified J are the result. If
J with N and with 2N solver steps part, N is raised.

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

from ..errors import ArgumentError, Problem
from ..flow.protocol import Flow, Matched, Stepped
from .certification import Measured, SolverBias, measured, solver_bias
from .config import TrainingConfig
from .losses import Batch, TargetModel, draw_batch
from .phases import PHASES, Phase, fraction, learning_rate
from .processes import ALONE, Ranks
from .state import DONE, Progress, Report, TrainingState
from .weights import FlatWeights

__all__ = ["Fit", "fit"]

_NEAR_NATS = 0.5
_MAX_ROLLBACKS = 20
_BIAS_SHARE = 0.02
_STEP_RAISE = 1.25
_FIXED = "fixed."


def fit(
    model: TargetModel,
    flow: Flow,
    config: TrainingConfig,
    *,
    seed: int,
    state: TrainingState | None = None,
    held_out: TargetModel | None = None,
    ranks: Ranks = ALONE,
    clock: Callable[[], float] = time.perf_counter,
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
        ranks: the processes that share the rows of each batch.
        clock: seconds, for the budget.

    Raises:
        ArgumentError: if the objective needs a density that the model has not, there
            are more processes than rows of a batch, or the state is of another run.
    """
    least = min(
        config.batch_size, config.final_batch_size, config.warm_start_batch_size
    )
    if least < ranks.size:
        raise ArgumentError(
            Problem(
                "batch_size",
                "fewer rows than processes",
                f"at least {ranks.size}",
                f"{least}",
            )
        )
    if config.objective != "forward" and not model.has_density:
        raise ArgumentError(
            Problem(
                "objective",
                "the model has draws but no density",
                "forward",
                config.objective,
            )
        )
    return Fit(
        model,
        flow,
        config,
        seed=seed,
        state=state,
        held_out=model if held_out is None else held_out,
        ranks=ranks,
        clock=clock,
    )


class Fit(Iterator[Report]):
    """A running fit. See `fit`."""

    def __init__(
        self,
        model: TargetModel,
        flow: Flow,
        config: TrainingConfig,
        *,
        seed: int,
        state: TrainingState | None,
        held_out: TargetModel,
        ranks: Ranks,
        clock: Callable[[], float],
    ) -> None:
        self._model, self._held_out = model, held_out
        self._flow, self._config, self._ranks = flow, config, ranks
        self._generator = torch.Generator().manual_seed(seed)
        self._weights = FlatWeights(flow)
        self._seed = seed
        self._clock = partial(ranks.shared, clock)
        self._started = self._clock()
        if state is None:
            draws = model.sample(config.normalisation_draws, generator=self._generator)
            flow.fit_normalisation(model.unconstrain(draws.latents)[0], draws.observed)
            self._weights.restart()
            first = "warm start" if isinstance(flow, Matched) else "training"
            state = self._state(Progress(seed, config.num_steps, first))
        progress = self._restored(ranks.shared(lambda: state))
        self._keep(progress)

    def state(self) -> TrainingState:
        """The state at the last report, to be resumed from."""
        return self._kept

    def best_state_dict(self) -> dict[str, Tensor]:
        """State of the flow with the best certified weights so far."""
        result = self._result(self._progress)
        return self._weights.state_dict_with(self._flow, result)

    def __iter__(self) -> "Fit":
        return self

    def __next__(self) -> Report:
        if self._progress.phase == DONE:
            raise StopIteration
        self._started = self._clock()
        progress, report = self._period(self._progress)
        self._keep(progress)
        return report

    def _keep(self, progress: Progress) -> None:
        """Ends the work on a report."""
        self._progress = replace(progress, seconds=self._seconds(progress))
        self._kept = self._state(self._progress)

    # -- one period between reports ----------------------------------------------------

    def _period(self, progress: Progress) -> tuple[Progress, Report]:
        """The progress and the report of the next period."""
        if progress.certifications == 0:
            return self._certified(progress, "before training")
        progress = self._entered(progress)
        phase, config = PHASES[progress.phase], self._config
        flow = self._flow
        if isinstance(flow, Stepped):
            flow = flow.in_steps(progress.num_steps)
        batches = self._batches(phase, progress)
        total, count, rate = 0.0, 0, 0.0
        for batch in batches:
            rate = learning_rate(phase, config, progress, self._seconds(progress))
            loss = self._step(flow, phase, batch, progress, rate)
            if not math.isfinite(loss):
                return self._rolled_back(progress, loss, rate)
            total, count = total + loss, count + 1
            progress = replace(progress, iteration=progress.iteration + 1)
            if self._fraction(progress) >= 1.0:
                break
        mean = total / max(count, 1)
        progress = replace(progress, rollbacks=0)
        if progress.phase != "training":
            return progress, self._report(progress, "ok", mean, rate)
        nats = _NEAR_NATS * len(flow.structure.blocks)
        progress = replace(progress, is_near=mean <= nats)
        bias, note = None, ""
        if isinstance(flow, Stepped):
            coarse, fine = flow, flow.finer(2)
            bias = self._ranks.shared(
                lambda: solver_bias(self._model, coarse, fine, batches[-1])
            )
            progress, note = self._with_steps_for(progress, bias, bias.fine)
        if self._is_certification_due(progress, phase):
            return self._certified(progress, f"certified{note}", mean, rate)
        return progress, self._report(progress, f"ok{note}", mean, rate, bias=bias)

    def _entered(self, progress: Progress) -> Progress:
        """The progress in the phase that is due."""
        seconds = self._seconds(progress)
        share = PHASES[progress.phase].share(self._config, progress, seconds)
        if progress.phase == "training" or share < 1.0:
            return progress
        self._weights.restart()
        start = self._fraction(progress)
        return replace(progress, phase="training", phase_start=start)

    def _batches(self, phase: Phase, progress: Progress) -> list[Batch]:
        """The batches of one period, drawn at once."""
        config = self._config
        share = phase.share(config, progress, progress.seconds)
        size = phase.batch_size(config, share)
        count = config.report_every
        whole = draw_batch(
            self._model, self._flow, size * count, generator=self._generator
        )
        return [
            whole.rows(start, start + size) for start in range(0, size * count, size)
        ]

    def _step(
        self, flow: Flow, phase: Phase, batch: Batch, progress: Progress, rate: float
    ) -> float:
        """One step of Adam; returns the loss, nan if the gradient is not finite."""
        weights, ranks, count = self._weights, self._ranks, len(batch.free)
        weights.gradient.zero_()
        own = slice(
            count * ranks.rank // ranks.size, count * (ranks.rank + 1) // ranks.size
        )
        terms = phase.terms(
            self._model, flow, batch, own, self._config, progress, self._generator
        )
        share = terms.sum() / count
        loss = share.detach().clone()
        ranks.sum_(loss)
        if not torch.isfinite(loss):
            return math.nan
        try:
            share.backward()  # type: ignore[no-untyped-call]
        except AssertionError:  # torchdiffeq: the adjoint solve gave up
            weights.gradient.fill_(torch.nan)
        ranks.sum_(weights.gradient)
        config = self._config
        has_stepped = weights.step(rate, config.gradient_clip, config.average)
        return float(loss) if has_stepped else math.nan

    def _rolled_back(
        self, progress: Progress, loss: float, rate: float
    ) -> tuple[Progress, Report]:
        """Back to the last report's state; the generator keeps its place."""
        kept = self._progress
        self._weights.restore(self._kept.tensors)
        back = replace(
            kept,
            rate_factor=0.5 * kept.rate_factor,
            rollbacks=kept.rollbacks + 1,
        )
        if back.rollbacks >= _MAX_ROLLBACKS:
            end = f"ended: {back.rollbacks} rollbacks in a row"
            return self._finished(back, end, loss, rate)
        status = (
            "rolled back: loss or gradient not finite at iteration "
            f"{progress.iteration}; learning rate times {back.rate_factor:g}"
        )
        return back, self._report(back, status, loss, rate)

    # -- measurement -------------------------------------------------------------------

    def _is_certification_due(self, progress: Progress, phase: Phase) -> bool:
        if self._fraction(progress) >= 1.0:
            return True
        share = phase.share(self._config, progress, self._seconds(progress))
        return share * self._config.num_certifications >= progress.certifications

    def _certified(
        self,
        progress: Progress,
        status: str,
        loss: float = math.nan,
        rate: float = 0.0,
    ) -> tuple[Progress, Report]:
        """Certifies the averaged weights, keeps the best, watches the solver."""
        config = self._config
        averaged = copy.deepcopy(self._flow)
        average = self._average(progress)
        averaged.load_state_dict(self._weights.state_dict_with(averaged, average))
        found = self._ranks.shared(
            lambda: measured(
                self._model,
                averaged,
                config,
                held_out=self._held_out,
                num_steps=progress.num_steps,
                # the same each time, and apart from the draws of training
                generator=torch.Generator().manual_seed(progress.seed + 1_000_003),
            )
        )
        seconds = self._seconds(progress)
        due = 0.0
        if progress.phase == "training":
            share = PHASES["training"].share(config, progress, seconds)
            due = share * config.num_certifications
        now = replace(
            progress, certifications=1 + max(progress.certifications, int(due))
        )
        value = found.value
        is_sound = value.num_non_finite == 0 and math.isfinite(value.mean)
        if is_sound and (now.best is None or value.mean < now.best):
            now = replace(now, best=value.mean, best_seconds=seconds)
            self._weights.best.copy_(average)
        if found.bias is not None:
            now, note = self._with_steps_for(now, found.bias, value.mean)
            status += note
        upper = value.mean + 2.0 * value.standard_error
        end = self._end(now, seconds, upper if self._model.has_density else math.inf)
        if end:
            return self._finished(now, end, loss, rate, found=found)
        return now, self._report(now, status, loss, rate, found=found)

    def _with_steps_for(
        self, progress: Progress, bias: SolverBias, nats: float
    ) -> tuple[Progress, str]:
        """More solver steps if their bias is too large beside the objective.

        Returns the progress with them, and a note if there are more.
        """
        config = self._config
        allowed = config.bias_tolerance
        if self._model.has_density:  # else the objective's value has no meaning
            allowed = max(allowed, _BIAS_SHARE * abs(nats))
        if bias.bulk <= allowed or progress.num_steps >= config.max_num_steps:
            return progress, ""
        raised = math.ceil(_STEP_RAISE * progress.num_steps)
        num_steps = min(raised, config.max_num_steps)
        return (
            replace(progress, num_steps=num_steps),
            f"; more solver steps: {num_steps}",
        )

    def _end(self, progress: Progress, seconds: float, upper: float) -> str:
        """Why training ends now, or nothing."""
        config = self._config
        if upper < config.converged_nats:
            return f"ended: certified J below {config.converged_nats:g} nats"
        if self._fraction(progress) >= 1.0:
            return "ended: budget used"
        patience = config.patience_seconds
        if patience and seconds - progress.best_seconds >= patience:
            return f"ended: no better certified J for {patience:g} s"
        return ""

    def _finished(
        self,
        progress: Progress,
        status: str,
        loss: float,
        rate: float,
        *,
        found: Measured | None = None,
    ) -> tuple[Progress, Report]:
        """The last report; the flow has the best weights."""
        if progress.best is None:
            status += "; no certified estimate was finite"
        result = self._result(progress)
        self._weights.best.copy_(result)
        self._flow.load_state_dict(self._weights.state_dict_with(self._flow, result))
        last = replace(progress, phase=DONE, status=status)
        return last, self._report(last, status, loss, rate, found=found)

    def _report(
        self,
        progress: Progress,
        status: str,
        loss: float,
        rate: float,
        *,
        bias: SolverBias | None = None,
        found: Measured | None = None,
    ) -> Report:
        bias = found.bias if found else bias
        return Report(
            iteration=progress.iteration,
            phase=progress.phase,
            status=status,
            loss=loss,
            certified=found.certified if found else None,
            certified_forward=(
                found.value if found and found.certified is None else None
            ),
            best=math.nan if progress.best is None else progress.best,
            ess=found.ess if found else None,
            solver_bias=None if bias is None else bias.difference,
            num_steps=progress.num_steps,
            learning_rate=rate,
            fraction=min(1.0, self._fraction(progress)),
            seconds=self._seconds(progress),
        )

    # -- state -------------------------------------------------------------------------

    def _seconds(self, progress: Progress) -> float:
        """Seconds of work so far."""
        return progress.seconds + self._clock() - self._started

    def _fraction(self, progress: Progress) -> float:
        return fraction(self._config, progress, self._seconds(progress))

    def _average(self, progress: Progress) -> Tensor:
        """Averaged weights; during the warm start the weights themselves."""
        is_warm = progress.phase == "warm start"
        return self._weights.values if is_warm else self._weights.average

    def _result(self, progress: Progress) -> Tensor:
        """The best certified weights, the average if there are none."""
        has_best = progress.best is not None or progress.phase == DONE
        return self._weights.best if has_best else self._average(progress)

    def _state(self, progress: Progress) -> TrainingState:
        fixed = self._weights.fixed(self._flow)
        tensors = {
            **self._weights.tensors(),
            **{f"{_FIXED}{name}": tensor for name, tensor in fixed.items()},
            "generator": self._generator.get_state(),
        }
        return TrainingState(tensors, progress.as_values())

    def _restored(self, state: TrainingState) -> Progress:
        """Takes a state over; returns its progress."""
        progress = Progress.from_values(state.values, self._seed)
        self._weights.restore(state.tensors)
        fixed = {
            name.removeprefix(_FIXED): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(_FIXED)
        }
        self._flow.load_state_dict({**self._flow.state_dict(), **fixed})
        self._generator.set_state(state.tensors["generator"].cpu())
        return progress
