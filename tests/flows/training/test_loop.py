"""Tests of flows.training.loop."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch

from flows.cnf.vector_field import FieldConfig
from flows.flow.kinds import build_flow
from flows.flow.structure import StateBlock, Structure
from flows.model.model import Model
from flows.training import loop, phases
from flows.training.certification import certify
from flows.training.config import training_config_from
from flows.training.loop import fit
from flows.training.state import TrainingState
from tests.flows.cnf.models import FreeModel, LinearGaussian, state_space

FAST = {
    "budget_seconds": 0,
    "max_iterations": 40,
    "batch_size": 16,
    "final_batch_size": 24,
    "warm_start_batch_size": 16,
    "warm_start_fraction": 0.25,
    "report_every": 5,
    "num_steps": 2,
    "num_certifications": 2,
    "certify_draws": 40,
    "normalisation_draws": 500,
    "tolerance": 1e-4,
    "converged_nats": 0.0,
}


class Curved(FreeModel):
    """z0 ~ N(0, 1), z1 ~ N(z0^2 / 2, 1/2), x ~ N(z1, 1/2)."""

    def sample(self, num, *, generator):
        noise = torch.randn(num, 3, generator=generator, dtype=torch.float64)
        z0 = noise[:, 0]
        z1 = z0.square() / 2 + noise[:, 1] / 2
        model = LinearGaussian(torch.zeros(1, 1), [0.0], [1.0], 1)
        draws = model.sample(1, generator=torch.Generator().manual_seed(0))
        x = z1 + noise[:, 2] / 2
        return type(draws)(torch.stack([z0, z1], -1), x[:, None])

    def log_joint(self, z, x):
        z0, z1 = z.unbind(-1)
        squares = z0.square() + 4 * (z1 - z0.square() / 2).square()
        squares = squares + 4 * (x[..., 0] - z1).square()
        return -0.5 * squares - 1.5 * math.log(2 * math.pi) + 2 * math.log(2.0)


def _structure(nuisances=1):
    return Structure(
        (
            StateBlock("z1", (1,), nuisances, (), (0,)),
            StateBlock("z0", (0,), nuisances, (0,), ()),
        ),
        1,
    )


def _flow(seed=0):
    return build_flow(_structure(), FieldConfig(hidden=4), seed=seed)


def _config(**changes):
    return training_config_from({**FAST, **changes}, "test")


def _through_storage(state):
    """A state as a checkpoint gives it back: copies of tensors, values from JSON."""
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
    return TrainingState(tensors, json.loads(json.dumps(dict(state.values))))


def _same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("stop_after", [1, 3, 5, 8])
def test_resumed_run_ends_in_the_same_weights(stop_after):
    whole = _flow()
    reports = list(fit(Curved(), whole, _config(), seed=3, clock=lambda: 0.0))
    assert reports[-1].phase == "done"
    assert reports[-1].iteration == 40
    first = fit(Curved(), _flow(), _config(), seed=3, clock=lambda: 0.0)
    for _ in range(stop_after):
        next(first)
    stored = _through_storage(first.state())
    other = _flow(seed=8)
    second = fit(Curved(), other, _config(), seed=3, state=stored, clock=lambda: 0.0)
    rest = list(second)
    # compared as text, in which nan equals nan
    assert repr(rest) == repr(reports[stop_after:])
    assert _same(whole.state_dict(), other.state_dict())


def test_equal_seeds_give_equal_runs_and_leave_global_random_state_alone():
    before = torch.random.get_rng_state()
    one, two = _flow(), _flow()
    for flow in (one, two):
        list(fit(Curved(), flow, _config(), seed=1, clock=lambda: 0.0))
    assert _same(one.state_dict(), two.state_dict())
    other = _flow()
    list(fit(Curved(), other, _config(), seed=2, clock=lambda: 0.0))
    assert not _same(one.state_dict(), other.state_dict())
    assert torch.equal(before, torch.random.get_rng_state())


class Failing(Curved):
    """Gives nan at one call that carries gradients."""

    def __init__(self, at):
        self.at = at
        self.calls = 0

    def log_joint(self, z, x):
        value = super().log_joint(z, x)
        if z.requires_grad:
            self.calls += 1
            if self.calls in self.at:
                return value * torch.nan
        return value


@pytest.mark.parametrize("nats", [0.0, 1e9])
def test_the_path_gradient_waits_until_the_flow_is_near(monkeypatch, nats):
    followed = []

    def recorded(name, objective):
        def run(*arguments, **options):
            followed.append(name)
            return objective(*arguments, **options)

        return run

    monkeypatch.setattr(loop, "_NEAR_NATS", nats)
    for table, name in (("_OBJECTIVES", "total"), ("_PATH_OBJECTIVES", "path")):
        objective = recorded(name, getattr(phases, table)["symmetric"])
        monkeypatch.setitem(getattr(phases, table), "symmetric", objective)
    list(fit(Curved(), _flow(), _config(), seed=3, clock=lambda: 0.0))
    # 30 of 40 iterations are training, in periods of 5: the first always by the total
    expected = ["total"] * 5 + (["path"] if nats else ["total"]) * 25
    assert followed == expected


def test_loss_that_is_not_finite_rolls_back_with_a_smaller_rate_and_says_so():
    run = fit(Failing({8}), _flow(), _config(), seed=3, clock=lambda: 0.0)
    states = [run.state()]
    reports = []
    for report in run:
        reports.append(report)
        states.append(run.state())
    (place,) = [i for i, r in enumerate(reports) if "rolled back" in r.status]
    assert "learning rate times 0.5" in reports[place].status
    kept, back = states[place].tensors, states[place + 1].tensors
    for name in ("weights.values", "weights.first", "weights.average"):
        assert torch.equal(kept[name], back[name])
    # the same draws are not met again
    assert not torch.equal(kept["generator"], back["generator"])
    assert reports[-1].status == "ended: budget used"
    assert states[-1].values["rate_factor"] == 0.5


def test_run_that_cannot_recover_ends_and_says_so():
    flow, model = _flow(), Failing(range(1, 10_000))
    run = fit(model, flow, _config(objective="reverse"), seed=3, clock=lambda: 0.0)
    reports = list(run)
    assert reports[-1].status == "ended: 20 rollbacks in a row"
    assert all(torch.isfinite(p).all() for p in flow.parameters())


def test_run_whose_j_is_never_finite_goes_on_by_the_forward_kl():
    model = Failing(range(1, 10_000))
    reports = list(fit(model, _flow(), _config(), seed=3, clock=lambda: 0.0))
    turned = [r for r in reports if "the forward KL is followed" in r.status]
    assert len(turned) == 1
    assert reports[-1].status.startswith("ended: budget used")


def test_a_rate_at_which_j_rises_is_halved_from_the_best_weights_on():
    flow = build_flow(_structure(0), kind="autoregressive")
    config = _config(learning_rate=1.0, max_iterations=80, num_certifications=8)
    reports = list(fit(Curved(), flow, config, seed=3, clock=lambda: 0.0))
    risen = [
        r
        for r in reports
        if r.status.startswith("rolled back: the objective has risen")
    ]
    assert risen
    found = [r.certified.symmetric.mean for r in reports if r.certified]
    assert reports[-1].best == min(found) < found[0]
    assert reports[-1].learning_rate < 1e-2 * 0.5 ** len(risen)


@pytest.mark.parametrize("objective", ["symmetric", "forward"])
def test_where_the_mean_of_j_hangs_on_a_few_rows_the_trained_weights_are_kept(
    objective,
):
    # The scale of the data is a square: a draw near 0 has nearly no density.
    program = """(let [a (sample (normal 0 1))]
      (observe (normal 0 (* a a)) 1) (observe (normal 0 (* a a)) 2) a)"""
    model = Model.from_program(program)
    flow = build_flow(model, kind="autoregressive")
    config = _config(objective=objective, max_iterations=200, certify_draws=400)
    reports = list(fit(model, flow, config, seed=3, clock=lambda: 0.0))
    found = [r.certified.forward.held_mean for r in reports if r.certified]
    assert reports[0].certified.symmetric.mean > 1e5
    last = certify(model, flow, 400, generator=torch.Generator().manual_seed(1_000_006))
    assert last.forward.held_mean < found[0] - 0.3
    assert any("forward KL is followed" in r.status for r in reports) is (
        objective == "symmetric"
    )


def test_what_the_warm_start_reached_is_certified():
    run = fit(Curved(), _flow(), _config(), seed=3, clock=lambda: 0.0)
    reports = [next(run) for _ in range(4)]
    first = reports[-1]
    assert (first.iteration, first.phase) == (10, "training")
    assert first.status == "certified: the warm start is over"
    assert first.note == "10 iterations"
    assert reports[-2].note.startswith("10 iterations, loss ")


def test_budget_counts_work_only_and_what_was_spent_before():
    ticks = iter(range(10_000))
    config = _config(budget_seconds=300, max_iterations=0)
    first = fit(Curved(), _flow(), config, seed=0, clock=lambda: float(next(ticks)))
    for _ in range(3):
        next(first)
    spent = first.state().values["seconds"]
    for _ in range(500):  # time that passes between reports
        next(ticks)
    assert first.state().values["seconds"] == spent
    second = fit(
        Curved(),
        _flow(),
        config,
        seed=0,
        state=_through_storage(first.state()),
        clock=lambda: float(next(ticks)),
    )
    report = next(second)
    assert spent < report.seconds < spent + 60
    last = list(second)[-1]
    assert last.status == "ended: budget used"
    assert 300 <= last.seconds < 340


def test_a_budget_of_seconds_holds_with_all_certifications_and_what_was_before(
    monkeypatch,
):
    now = [100.0]

    def slowly(*args, num_draws, **kwargs):
        now[0] += 0.05 * num_draws
        return measured(*args, num_draws=num_draws, **kwargs)

    def one_step(*args, **kwargs):
        now[0] += 0.1
        return step(*args, **kwargs)

    measured, step = loop.measured, loop.step
    monkeypatch.setattr(loop, "measured", slowly)
    monkeypatch.setattr(loop, "step", one_step)
    config = _config(budget_seconds=60, max_iterations=0, certify_draws=600)
    run = fit(Curved(), _flow(), config, seed=0, clock=lambda: now[0], started=90.0)
    first, *_, last = list(run)
    assert first.status == "before training; by 60 draws only, as time is short"
    assert last.status == "ended: budget used"
    assert now[0] - 90.0 == pytest.approx(60.0, abs=1.5)
    assert last.iteration > 200


def test_learning_rate_is_a_function_of_the_fraction_of_the_budget():
    rates = []
    for scale in (1, 2):
        config = _config(max_iterations=40 * scale, report_every=5 * scale)
        reports = list(fit(Curved(), _flow(), config, seed=0, clock=lambda: 0.0))
        rates.append([r.learning_rate for r in reports if "certified" in r.status])
    assert rates[0] == pytest.approx(rates[1], rel=0.2)


def test_best_certified_weights_are_the_result():
    flow = _flow()
    run = fit(Curved(), flow, _config(), seed=3, clock=lambda: 0.0)
    certified = []
    candidates = []
    for report in run:
        if report.certified is not None:
            certified.append(report.certified.symmetric.mean)
            candidates.append(run.best_state_dict())
    best = min(range(len(certified)), key=certified.__getitem__)
    assert report.best == certified[best]
    assert _same(candidates[best], flow.state_dict())


def test_model_that_the_affine_layer_solves_ends_before_training():
    model, structure = state_space(4)
    flow = build_flow(structure, FieldConfig(hidden=4, last_layer_scale=0.01))
    config = _config(normalisation_draws=40_000, converged_nats=0.01, certify_draws=400)
    (report,) = list(fit(model, flow, config, seed=0, clock=lambda: 0.0))
    assert report.status.startswith("ended: certified J below")
    assert report.certified.symmetric.mean < 0.01
    assert report.ess > 0.95


@pytest.mark.parametrize("gradient", ["path", "total"])
def test_both_gradients_find_the_posterior(gradient):
    config = _config(gradient=gradient, max_iterations=200, certify_draws=400)
    reports = list(fit(Curved(), _flow(), config, seed=1, clock=lambda: 0.0))
    assert reports[-1].best < 0.5 * reports[0].certified.symmetric.mean


def test_training_ends_after_a_time_without_a_better_certified_j():
    # weights that do not move have the same J on the same draws
    still = dict.fromkeys(
        ("learning_rate", "final_learning_rate", "warm_start_learning_rate"), 0.0
    )
    config = _config(**still, max_iterations=100, num_certifications=10)
    seconds = itertools.count()
    for patience, ending in ((0.0, "budget used"), (40.0, "no better certified J for")):
        run = fit(
            Curved(),
            _flow(),
            replace(config, patience_seconds=patience),
            seed=1,
            clock=lambda: float(next(seconds)),
        )
        last = list(run)[-1]
        assert ending in last.status
        assert (last.iteration == 100) == (patience == 0.0)


def test_objective_can_be_one_direction():
    """Its loss is then what is certified of it, on other draws."""
    for objective in ("forward", "reverse"):
        config = _config(
            objective=objective,
            max_iterations=60,
            warm_start_fraction=0.0,
            learning_rate=0.0,
            final_learning_rate=0.0,
            report_every=100,
            certify_draws=2000,
        )
        last = list(fit(Curved(), _flow(), config, seed=0, clock=lambda: 0.0))[-1]
        found = getattr(last.certified, objective)
        assert abs(last.loss - found.mean) < 4.0 * found.standard_error
        other = {"forward": "reverse", "reverse": "forward"}[objective]
        apart = abs(last.loss - getattr(last.certified, other).mean)
        assert apart > 8.0 * found.standard_error


def test_state_of_another_seed_or_shape_is_refused():
    state = fit(Curved(), _flow(), _config(), seed=0).state()
    with pytest.raises(ValueError, match="seed; expected 1; got 0"):
        fit(Curved(), _flow(), _config(), seed=1, state=state)
    wide = build_flow(_structure(), FieldConfig(hidden=5))
    with pytest.raises(ValueError, match=r"weights.values is of another .*tensor of"):
        fit(Curved(), wide, _config(), seed=0, state=state)


@pytest.mark.slow
def test_training_reaches_a_curved_posterior():
    flow = build_flow(_structure(), FieldConfig(hidden=12))
    config = _config(
        max_iterations=600,
        batch_size=128,
        final_batch_size=256,
        num_steps=6,
        certify_draws=1000,
        normalisation_draws=5000,
        report_every=25,
    )
    run = fit(Curved(), flow, config, seed=0)
    reports = list(run)
    assert reports[0].best > 0.2
    assert reports[-1].best < 0.05


class Hollow(Curved):
    """Has no finite density anywhere that a certification looks."""

    def log_joint(self, z, x):
        return super().log_joint(z, x) * (1.0 if z.requires_grad else torch.nan)


def test_run_whose_certified_j_is_never_finite_ends_with_finite_weights_and_says_so():
    flow = _flow()
    run = fit(Hollow(), flow, _config(), seed=3, clock=lambda: 0.0)
    reports = list(run)
    assert reports[-1].status.endswith("no certified estimate was finite")
    assert math.isnan(reports[-1].best)
    assert run.state().values["best"] is None
    assert all(torch.isfinite(p).all() for p in flow.parameters())
    assert _same(run.best_state_dict(), flow.state_dict())


def test_state_of_another_version_of_the_program_is_refused_in_a_sentence():
    state = fit(Curved(), _flow(), _config(), seed=0).state()
    old = replace(state, values={**state.values, "adam_steps": 3})
    with pytest.raises(ValueError, match=r"another version .*; got .*adam_steps"):
        fit(Curved(), _flow(), _config(), seed=0, state=old)


def test_a_trained_flow_goes_on_from_where_it_is_without_a_warm_start():
    flow = _flow()
    best = list(fit(Curved(), flow, _config(), seed=3, clock=lambda: 0.0))[-1].best
    fixed = {n: t.clone() for n, t in flow.state_dict().items() if "normal" in n}
    more = replace(_config(), max_iterations=10)
    reports = list(
        fit(Curved(), flow, more, seed=3, is_trained=True, clock=lambda: 0.0)
    )
    assert all(report.phase != "warm start" for report in reports[1:])
    assert reports[-1].best <= best + 1e-9
    after = flow.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in fixed.items())
