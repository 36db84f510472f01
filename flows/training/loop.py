r"""This file fits a flow to a model: an iterator of small reports, an optimizer inside.

The recipe has two phases over a budget of seconds of work or of iterations.

1. Warm start: conditional flow matching (`losses.flow_matching`) on the same network,
   where a step needs one evaluation of the field instead of a solve.
2. The objective (symmetric unless told), by Adam with half a cosine of learning rates,
   clipped gradients, an average of the weights, and larger batches at the end. Its path
   gradient (`losses.symmetric_path`) is followed in the periods after those that came
   within `_NEAR_NATS` per latent, otherwise the total one.

Learning rates are functions of the fraction of the budget that is used. The clock is
read only while working: time between reports does not count, and a resumed run counts
what was spent before. From time to time J is certified (`certification.certify`) for
the averaged weights, on the same draws each time; the weights with the lowest certified
J are the result. If J with N and with 2N solver steps part, N is raised.

A loss or gradient that is not finite takes the run back to the state of its last report
with half the learning rate, and a report says so.

Several processes may share a run (`processes.py`): each draws the same batches, takes
its own rows of each, and the gradients add up, so that the run is that of one process
up to the order of additions, and may be resumed by another number of processes.

A run is resumed from a `TrainingState`, which holds tensors and plain values only. Two
runs with equal seeds and iteration budgets are equal bit by bit on one machine,
interrupted or not.

References:
    Kingma and Ba, "Adam", ICLR 2015.
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..cnf.engine import Engine, TorchEngine
from ..cnf.flow import ConditionalFlow
from .certification import (
    SolverBias,
    certify,
    certify_forward,
    ess_fractions,
    solver_bias,
)
from .config import TrainingConfig
from .losses import (
    Batch,
    Estimate,
    SymmetricEstimate,
    TargetModel,
    draw_batch,
    flow_matching,
    forward_kl,
    reverse_kl,
    symmetric,
    symmetric_path,
)
from .processes import ALONE, Ranks

__all__ = ["Fit", "Report", "TrainingState", "fit"]

_OBJECTIVES = {"symmetric": symmetric, "forward": forward_kl, "reverse": reverse_kl}
_PATH_OBJECTIVES = {"symmetric": symmetric_path}
_ADAM_DECAYS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8
_RAMP = 0.01
_NEAR_NATS = 0.5
_MAX_ROLLBACKS = 20
_ESS_DATA_SETS = 24
_ESS_PARTICLES = 200
_BIAS_SHARE = 0.02
_STEP_RAISE = 1.25


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last report.

    Args:
        iteration: iterations so far.
        phase: warm start, training or done.
        status: a few words: ok, certified, rolled back, more solver steps, or why
            training ended.
        loss: mean of the phase's loss since the last report.
        certified: certified J of the averaged weights, where it was measured now.
        certified_forward: certified forward KL instead, of a model without density.
        best: lowest certified J so far, or forward KL without a density, in nats.
        ess: median ESS / N of the averaged weights, where it was measured now and the
            engine's densities are exact.
        solver_bias: nats between N and 2N solver steps, where it was measured now.
        num_steps: solver steps N of training.
        learning_rate: Adam's rate.
        fraction: fraction of the budget used.
        seconds: seconds of work so far.
    """

    iteration: int
    phase: str
    status: str
    loss: float
    certified: SymmetricEstimate | None
    certified_forward: Estimate | None
    best: float
    ess: float | None
    solver_bias: float | None
    num_steps: int
    learning_rate: float
    fraction: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that a continuation needs.

    Args:
        tensors: parameters, moments, averages, the generator's state, normalisation.
        values: plain JSON values.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def fit(
    model: TargetModel,
    flow: ConditionalFlow,
    config: TrainingConfig,
    *,
    seed: int,
    state: TrainingState | None = None,
    engine: Callable[[int], Engine] = TorchEngine,
    held_out: TargetModel | None = None,
    ranks: Ranks = ALONE,
    clock: Callable[[], float] = time.perf_counter,
) -> "Fit":
    """An iterator of reports; the flow holds the best weights when it ends.

    Args:
        model: the target.
        flow: changed in place, normalisation included.
        config: all numbers.
        seed: of every draw.
        state: of a run with the same model, structure, configuration and seed that is
            to be continued.
        engine: makes the training engine of a number of steps.
        held_out: draws that certify the flow; the model's own if None.
        ranks: the processes that share the rows of each batch.
        clock: seconds, for the budget.

    Raises:
        ValueError: if the objective needs a density that the model has not, or there
            are more processes than rows of a batch.
    """
    least = min(
        config.batch_size, config.final_batch_size, config.warm_start_batch_size
    )
    if least < ranks.size:
        raise ValueError(
            f"batch_size: fewer rows than processes; expected at least {ranks.size}; "
            f"got {least}"
        )
    if config.objective != "forward" and not model.has_density:
        raise ValueError(
            "objective: the model has draws but no density; expected forward; "
            f"got {config.objective}"
        )
    return Fit(
        model,
        flow,
        config,
        seed=seed,
        state=state,
        engine=engine,
        held_out=model if held_out is None else held_out,
        ranks=ranks,
        clock=clock,
    )


class Fit(Iterator[Report]):
    """A running fit. See `fit`."""

    def __init__(
        self,
        model: TargetModel,
        flow: ConditionalFlow,
        config: TrainingConfig,
        *,
        seed: int,
        state: TrainingState | None,
        engine: Callable[[int], Engine],
        held_out: TargetModel,
        ranks: Ranks,
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._ranks = ranks
        self._held_out = held_out
        self._flow = flow
        self._config = config
        self._seed = seed
        self._make_engine = engine
        self._clock = partial(ranks.shared, clock)
        self._device = flow.normalisation.shift.device
        self._generator = torch.Generator().manual_seed(seed)
        self._weights = _FlatWeights(flow)
        self._values: dict[str, Any] = {
            "version": 1,
            "seed": seed,
            "iteration": 0,
            "phase": "warm start",
            "phase_start": 0.0,
            "adam_steps": 0,
            "seconds": 0.0,
            "num_steps": config.num_steps,
            "rate_factor": 1.0,
            "rollbacks": 0,
            "is_near": False,
            "certifications": 0,
            "best": None,
            "best_seconds": 0.0,
            "status": "",
        }
        started = self._clock()
        if state is None:
            draws = model.sample(config.normalisation_draws, generator=self._generator)
            free = model.unconstrain(draws.latents)[0]
            flow.normalisation.fit(free, draws.observed)
            self._weights.restart()
        else:
            self._restore(state)
        self._restore(ranks.shared(self._take_snapshot))
        self._values["seconds"] += self._clock() - started
        self._snapshot = self._take_snapshot()

    def state(self) -> TrainingState:
        """The state at the last report, to be resumed from."""
        return self._snapshot

    def best_state_dict(self) -> dict[str, Tensor]:
        """State of the flow with the best certified weights so far."""
        chosen = copy.deepcopy(self._flow)
        best = self._weights.best
        _load_flat(chosen, best if self._values["best"] is not None else self._average)
        return chosen.state_dict()

    def __iter__(self) -> "Fit":
        return self

    def __next__(self) -> Report:
        if self._values["phase"] == "done":
            raise StopIteration
        started = self._clock()
        before = self._values["seconds"]

        def seconds() -> float:
            return float(before + self._clock() - started)

        report = self._period(seconds)
        self._values["seconds"] = seconds()
        self._snapshot = self._take_snapshot()
        return report

    # -- one period between reports ----------------------------------------------------

    def _period(self, seconds: Callable[[], float]) -> Report:
        values = self._values
        if values["certifications"] == 0:
            return self._certified(seconds, "before training")
        self._advance_phase(seconds())
        batches = self._batches()
        total, count, rate = 0.0, 0, 0.0
        for batch in batches:
            rate = self._learning_rate(seconds())
            loss = self._step(batch, rate)
            if not math.isfinite(loss):
                return self._rolled_back(seconds, loss, rate)
            total, count = total + loss, count + 1
            values["iteration"] += 1
            if self._fraction(seconds()) >= 1.0:
                break
        values["rollbacks"] = 0
        mean = total / max(count, 1)
        if values["phase"] == "training":
            nats = _NEAR_NATS * len(self._flow.structure.blocks)
            values["is_near"] = mean <= nats
        bias, note = self._watched_solver(batches[-1])
        if self._is_certification_due(seconds()):
            return self._certified(seconds, f"certified{note}", mean, rate)
        return self._report(seconds, f"ok{note}", mean, rate, bias=bias)

    def _watched_solver(self, batch: Batch) -> tuple[float | None, str]:
        """Raises the solver's steps as soon as training leans on their error.

        Returns the bias of the weights being trained, and a note if N was raised.
        """
        values = self._values
        if values["phase"] != "training":
            return None, ""
        engine = self._make_engine(values["num_steps"])
        bias = self._ranks.shared(
            lambda: solver_bias(self._model, self._flow, batch, engine)
        )
        return bias.difference, self._raised_steps(bias, bias.fine)

    def _raised_steps(self, bias: SolverBias, nats: float) -> str:
        """Raises the solver's steps if their bias is too large beside the objective."""
        values, config = self._values, self._config
        allowed = config.bias_tolerance
        if self._model.has_density:  # else the objective's value has no meaning
            allowed = max(allowed, _BIAS_SHARE * abs(nats))
        if bias.bulk <= allowed or values["num_steps"] >= config.max_num_steps:
            return ""
        raised = math.ceil(_STEP_RAISE * values["num_steps"])
        values["num_steps"] = min(raised, config.max_num_steps)
        return f"; more solver steps: {values['num_steps']}"

    def _advance_phase(self, seconds: float) -> None:
        """Leaves the warm start when its share of the budget is used."""
        values = self._values
        if values["phase"] != "warm start":
            return
        fraction = self._fraction(seconds)
        if fraction >= self._config.warm_start_fraction or (
            self._config.budget_seconds > 0
            and seconds >= self._config.warm_start_seconds
        ):
            values["phase"] = "training"
            values["phase_start"] = fraction
            self._weights.restart()
            values["adam_steps"] = 0

    def _batches(self) -> list[Batch]:
        """The batches of one period, drawn at once."""
        config = self._config
        size = config.warm_start_batch_size
        if self._values["phase"] == "training":
            progress = self._progress(self._values["seconds"])
            is_final = progress >= 1.0 - config.final_batch_fraction
            size = config.final_batch_size if is_final else config.batch_size
        count = config.report_every
        whole = draw_batch(
            self._model, self._flow, size * count, generator=self._generator
        )
        return [
            whole.rows(start, start + size) for start in range(0, size * count, size)
        ]

    def _step(self, batch: Batch, rate: float) -> float:
        """One step of Adam; returns the loss, nan if the gradient is not finite."""
        weights, values = self._weights, self._values
        weights.gradient.zero_()
        count = batch.free.shape[0]
        first, last = (
            count * rank // self._ranks.size
            for rank in (self._ranks.rank, self._ranks.rank + 1)
        )
        own = batch.rows(first, last)
        if values["phase"] == "warm start":
            times = torch.rand(count, generator=self._generator).to(batch.free)
            terms = flow_matching(self._flow, own, times[first:last])
        else:
            engine = self._make_engine(values["num_steps"])
            terms = self._objective(engine)(self._model, self._flow, own, engine=engine)
        share = terms.sum() / count
        loss = share.detach().clone()
        self._ranks.sum_(loss)
        if not torch.isfinite(loss):
            return math.nan
        try:
            share.backward()  # type: ignore[no-untyped-call]
        except AssertionError:  # torchdiffeq: the adjoint solve gave up
            weights.gradient.fill_(torch.nan)
        self._ranks.sum_(weights.gradient)
        norm = float(weights.gradient.norm())
        if not math.isfinite(norm):
            return math.nan
        values["adam_steps"] += 1
        clip = min(1.0, self._config.gradient_clip / max(norm, 1e-30))
        weights.step(rate, clip, values["adam_steps"], self._config.average)
        return float(loss)

    def _objective(self, engine: Engine) -> Callable[..., Tensor]:
        """The loss whose gradient is followed.

        Far from the model the path gradient leads away: the total one comes first.
        """
        config = self._config
        is_near = self._values.get("is_near", False)
        if config.gradient == "path" and engine.is_exact and is_near:
            return _PATH_OBJECTIVES.get(config.objective, _OBJECTIVES[config.objective])
        return _OBJECTIVES[config.objective]

    def _rolled_back(
        self, seconds: Callable[[], float], loss: float, rate: float
    ) -> Report:
        """Back to the last report's state; the generator keeps its place."""
        generator = self._generator.get_state()
        factor = 0.5 * self._values["rate_factor"]
        rollbacks = self._values["rollbacks"] + 1
        iteration = self._values["iteration"]
        self._restore(self._snapshot)
        self._generator.set_state(generator)
        self._values["rate_factor"] = factor
        self._values["rollbacks"] = rollbacks
        status = (
            f"rolled back: loss or gradient not finite at iteration {iteration}; "
            f"learning rate times {factor:g}"
        )
        if rollbacks >= _MAX_ROLLBACKS:
            return self._finish(
                seconds, f"ended: {rollbacks} rollbacks in a row", loss, rate
            )
        return self._report(seconds, status, loss, rate)

    # -- schedule ----------------------------------------------------------------------

    def _fraction(self, seconds: float) -> float:
        """Fraction of the budget used, by seconds or iterations, the larger."""
        config = self._config
        parts = [0.0]
        if config.budget_seconds:
            parts.append(seconds / config.budget_seconds)
        if config.max_iterations:
            parts.append(self._values["iteration"] / config.max_iterations)
        return max(parts)

    def _progress(self, seconds: float) -> float:
        """Fraction of the main phase that is over."""
        start = float(self._values["phase_start"])
        return (self._fraction(seconds) - start) / max(1.0 - start, 1e-9)

    def _learning_rate(self, seconds: float) -> float:
        config, values = self._config, self._values
        if values["phase"] == "warm start":
            # Without a budget of time the clock must not enter: runs are repeatable.
            by_seconds = 0.0
            if config.budget_seconds:
                by_seconds = seconds / max(config.warm_start_seconds, 1e-9)
            by_share = self._fraction(seconds) / max(config.warm_start_fraction, 1e-9)
            progress = min(1.0, max(by_seconds, by_share))
            high, low = config.warm_start_learning_rate, config.final_learning_rate
        else:
            progress = min(1.0, self._progress(seconds))
            high, low = config.learning_rate, config.final_learning_rate
        cosine = low + (high - low) * 0.5 * (1.0 + math.cos(math.pi * progress))
        ramp = min(1.0, (progress + 1e-3) / _RAMP)
        return float(cosine * ramp * values["rate_factor"])

    def _is_certification_due(self, seconds: float) -> bool:
        if self._values["phase"] != "training":
            return False
        if self._fraction(seconds) >= 1.0:
            return True
        done = self._values["certifications"] - 1
        return bool(
            self._progress(seconds) * self._config.num_certifications >= done + 1
        )

    # -- measurement -------------------------------------------------------------------

    def _certified(
        self,
        seconds: Callable[[], float],
        status: str,
        loss: float = math.nan,
        rate: float = 0.0,
    ) -> Report:
        """Certifies the averaged weights, keeps the best, watches the solver."""
        values, config = self._values, self._config
        averaged = copy.deepcopy(self._flow)
        _load_flat(averaged, self._average)
        found = self._ranks.shared(lambda: self._measured(averaged))
        value, bias = found.value, found.bias
        measured: dict[str, Any] = {
            "certified": found.certified,
            "certified_forward": None if found.certified else value,
            "ess": found.ess,
            "bias": bias.difference,
        }
        values["certifications"] = 1 + max(
            values["certifications"],
            int(self._progress(seconds()) * config.num_certifications)
            if values["phase"] == "training"
            else 0,
        )
        is_sound = value.num_non_finite == 0 and math.isfinite(value.mean)
        if is_sound and (values["best"] is None or value.mean < values["best"]):
            values["best"] = value.mean
            values["best_seconds"] = seconds()
            self._weights.best = self._average.clone()
        status += self._raised_steps(bias, value.mean)
        upper = value.mean + 2.0 * value.standard_error
        end = self._end(seconds(), upper if self._model.has_density else math.inf)
        if end:
            return self._finish(seconds, end, loss, rate, **measured)
        return self._report(seconds, status, loss, rate, **measured)

    def _measured(self, averaged: ConditionalFlow) -> "_Measured":
        """Measures the averaged weights, on the same draws each time."""
        config = self._config
        # apart from the draws of training
        generator = torch.Generator().manual_seed(self._seed + 1_000_003)
        found = (certify if self._model.has_density else certify_forward)(
            self._held_out,
            averaged,
            config.certify_draws,
            generator=generator,
            tolerance=config.tolerance,
        )
        if isinstance(found, SymmetricEstimate):
            certified, value = found, found.symmetric
            ess = self._ess(averaged, generator)
        else:
            certified, value, ess = None, found, None
        sample = draw_batch(
            self._model, averaged, config.certify_draws // 2, generator=generator
        )
        engine = self._make_engine(self._values["num_steps"])
        bias = solver_bias(self._model, averaged, sample, engine)
        return _Measured(value, certified, ess, bias)

    def _ess(
        self, averaged: ConditionalFlow, generator: torch.Generator
    ) -> float | None:
        """Median ESS / N over data sets; none where densities are noisy."""
        fine = self._make_engine(2 * self._values["num_steps"])
        if not fine.is_exact:
            return None
        fractions = ess_fractions(
            self._model,
            averaged,
            _ESS_DATA_SETS,
            _ESS_PARTICLES,
            engine=fine,
            generator=generator,
        )
        return float(fractions.median())

    def _end(self, seconds: float, upper: float) -> str:
        """Why training ends now, or nothing."""
        fraction = self._fraction(seconds)
        if upper < self._config.converged_nats:
            return f"ended: certified J below {self._config.converged_nats:g} nats"
        if fraction >= 1.0:
            return "ended: budget used"
        patience = self._config.patience_seconds
        if patience and seconds - self._values["best_seconds"] >= patience:
            return f"ended: no better certified J for {patience:g} s"
        return ""

    def _finish(
        self,
        seconds: Callable[[], float],
        status: str,
        loss: float,
        rate: float,
        **extra: Any,
    ) -> Report:
        self._values["phase"] = "done"
        self._values["status"] = status
        has_best = self._values["best"] is not None
        _load_flat(self._flow, self._weights.best if has_best else self._average)
        return self._report(seconds, status, loss, rate, **extra)

    def _report(
        self,
        seconds: Callable[[], float],
        status: str,
        loss: float,
        rate: float,
        *,
        certified: SymmetricEstimate | None = None,
        certified_forward: Estimate | None = None,
        ess: float | None = None,
        bias: float | None = None,
    ) -> Report:
        values = self._values
        best = values["best"]
        return Report(
            iteration=values["iteration"],
            phase=values["phase"],
            status=status,
            loss=loss,
            certified=certified,
            certified_forward=certified_forward,
            best=math.nan if best is None else best,
            ess=ess,
            solver_bias=bias,
            num_steps=values["num_steps"],
            learning_rate=rate,
            fraction=min(1.0, self._fraction(seconds())),
            seconds=seconds(),
        )

    # -- state -------------------------------------------------------------------------

    @property
    def _average(self) -> Tensor:
        """Averaged weights; during the warm start the weights themselves."""
        is_warm = self._values["phase"] == "warm start"
        return self._weights.values if is_warm else self._weights.average

    def _take_snapshot(self) -> TrainingState:
        tensors = {
            f"weights.{name}": tensor.detach().clone()
            for name, tensor in self._weights.tensors().items()
        }
        for name, buffer in self._flow.normalisation.state_dict().items():
            tensors[f"normalisation.{name}"] = buffer.clone()
        tensors["generator"] = self._generator.get_state()
        return TrainingState(tensors, json.loads(json.dumps(self._values)))

    def _restore(self, state: TrainingState) -> None:
        _check_state(state, self._seed, self._weights)
        for name, tensor in self._weights.tensors().items():
            tensor.copy_(state.tensors[f"weights.{name}"])
        prefix = "normalisation."
        self._flow.normalisation.load_state_dict(
            {
                name.removeprefix(prefix): tensor
                for name, tensor in state.tensors.items()
                if name.startswith(prefix)
            }
        )
        self._generator.set_state(state.tensors["generator"].cpu())
        self._values = dict(state.values)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a certification found.

    Args:
        value: certified J, or forward KL of a model without density.
        certified: J with its two directions, if there is a density.
        ess: median ESS / N, if it was measured.
        bias: of the training solver.
    """

    value: Estimate
    certified: SymmetricEstimate | None
    ess: float | None
    bias: SolverBias


class _FlatWeights:
    """All weights in one vector, of which the parameters are views, with their Adam.

    One vector makes a step a handful of operations whatever the number of parameters.
    """

    def __init__(self, flow: ConditionalFlow) -> None:
        parameters = list(flow.parameters())
        with torch.no_grad():
            self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.values)
        start = 0
        for parameter in parameters:
            stop = start + parameter.numel()
            parameter.data = self.values[start:stop].view_as(parameter)
            parameter.grad = self.gradient[start:stop].view_as(parameter)
            start = stop
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values)
        self.average = self.values.clone()
        self.best = self.values.clone()

    def tensors(self) -> dict[str, Tensor]:
        """Everything a continuation needs."""
        return {
            "values": self.values,
            "first": self.first,
            "second": self.second,
            "average": self.average,
            "best": self.best,
        }

    def restart(self) -> None:
        """Forgets moments; the average starts from the weights."""
        self.first.zero_()
        self.second.zero_()
        self.average.copy_(self.values)

    @torch.no_grad()
    def step(self, rate: float, clip: float, count: int, decay: float) -> None:
        """One step of Adam with a clipped gradient, and of the average."""
        one, two = _ADAM_DECAYS
        gradient = self.gradient * clip
        self.first.lerp_(gradient, 1.0 - one)
        self.second.mul_(two).addcmul_(gradient, gradient, value=1.0 - two)
        root = (self.second / (1.0 - two**count)).sqrt_().add_(_ADAM_EPSILON)
        self.values.addcdiv_(self.first, root, value=-rate / (1.0 - one**count))
        warmed = min(decay, (1.0 + count) / (10.0 + count))
        self.average.lerp_(self.values, 1.0 - warmed)


def _load_flat(flow: ConditionalFlow, flat: Tensor) -> None:
    """Copies a flat vector into a flow's parameters."""
    start = 0
    with torch.no_grad():
        for parameter in flow.parameters():
            stop = start + parameter.numel()
            parameter.copy_(flat[start:stop].view_as(parameter))
            start = stop


def _check_state(state: TrainingState, seed: int, weights: _FlatWeights) -> None:
    if state.values.get("seed") != seed:
        raise ValueError(
            f"training state: seed; expected {seed}; got {state.values.get('seed')}"
        )
    for name, tensor in weights.tensors().items():
        other = state.tensors.get(f"weights.{name}")
        if other is None or other.shape != tensor.shape:
            raise ValueError(
                f"training state: weights.{name}; expected a tensor of shape "
                f"{tuple(tensor.shape)}; got "
                f"{None if other is None else tuple(other.shape)}"
            )
