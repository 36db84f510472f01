"""Tests of flows.front.edges: posterior mass where doubles end, which flows miss."""

import json
import math

import pytest
from click.testing import CliRunner

import flows
from flows.cli import main
from flows.model.model import Model

QUICK = {"budget_seconds": 0.0, "max_iterations": 60, "certify_draws": 200}
BETA = "(let [r (sample (beta 1 0.05))] (observe (flip r) true) r)"
SHARP = """(let [r (sample (beta 1 0.05)) s (sample (normal 0 1))]
  (observe (flip r) true) (observe (normal s 0.001) 3.0) r)"""
NORMAL = -0.5 * math.log(2 * math.pi * (1 + 1e-6)) - 4.5 / (1 + 1e-6)


def beta(a, b):
    return f"(let [r (sample (beta {a} {b}))] (observe (flip r) true) r)"


def simplex(a):
    return f"(let [p (sample (dirichlet [{a} {a} {a}]))] (observe (discrete p) 0) p)"


def trained(text):
    return flows.train(Model.from_program(text), config=QUICK)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """A program whose posterior has a sixth of its mass at 1, and a flow for it."""
    folder = tmp_path_factory.mktemp("edges")
    program = folder / "b.daphne"
    program.write_text(BETA)
    trained(BETA).save(folder / "b")
    return folder / "b", program


MISSED = [
    BETA,
    beta(0.1, 0.1),
    simplex(0.1),
    "(let [r (sample (gamma 0.001 0.001))] (observe (poisson r) 0) r)",
    "(let [r (sample (lognormal 0 400))] (observe (flip (/ 1 (+ 1 r))) false) r)",
]


@pytest.mark.parametrize("text", MISSED)
def test_what_a_flow_misses_is_said(text):
    particles = trained(text).sample(num_particles=2000)
    (doubt,) = particles.doubts
    assert "are where doubles end" in doubt.what
    assert doubt in particles.summary().cautions


@pytest.mark.parametrize("text", [beta(0.2, 0.2), beta(0.5, 0.5), simplex(0.2)])
def test_a_flow_that_misses_next_to_nothing_is_trusted(text):
    posterior = trained(text)
    assert not any(posterior.sample(num_particles=2000, seed=s).doubts for s in (0, 1))


def test_the_share_is_that_of_the_posterior(artifact):
    """In closed form, r > 1 - e has the share (e^0.05 (1 + r / 20)) of the posterior.

    Values from 1 - 1.25 e on are one, e what a double resolves below 1.
    """
    (doubt,) = trained(BETA).sample(num_particles=2000).doubts
    share = float(doubt.what.split("%")[0].split()[-1]) / 100
    prior = (1.25 * 2.0**-52) ** 0.05
    assert share == pytest.approx(prior * 1.05, rel=0.15)


def test_data_that_exclude_the_edge_leave_a_flow_trusted():
    text = "(let [r (sample (beta 1 0.05))] (observe (binomial 20 r) 10) r)"
    assert not trained(text).sample(num_particles=2000).doubts


@pytest.mark.parametrize(
    "command", [("sample",), ("sample", "--proposal", "mixture"), ("smc",)]
)
def test_commands_say_so(command, artifact, tmp_path):
    name, *options = command
    words = [name, *artifact, "-o", tmp_path / "out", *options, "--json"]
    words += ["--num-particles", 500]
    call = CliRunner().invoke(main, [*map(str, words)])
    assert call.exit_code == 3, call.output
    found = json.loads(call.stdout)
    assert not found["ok"]
    assert any("are where doubles end" in each["what"] for each in found["cautions"])


def test_a_flow_of_one_data_set_says_so():
    model = Model.from_program(BETA)
    bent = flows.refine(model, config=QUICK, engine="torch", budget=1.0)
    assert not bent.metrics["ok"]
    assert any("where doubles end" in each for each in bent.metrics["cautions"])


@pytest.mark.parametrize("method", ["auto", "smc"])
def test_tempering_moves_the_others_beside_what_is_at_the_edge(method):
    found = flows.infer(Model.from_program(SHARP), method=method, num_particles=3000)
    assert found.is_trusted, found.cautions
    exact = NORMAL - math.log(1.05)
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(exact, abs=4 * error)


def test_a_vector_at_the_edge_that_does_not_move_is_not_trusted():
    text = """(let [p (sample (dirichlet [0.05 0.05 0.05])) s (sample (normal 0 1))]
      (observe (discrete p) 0) (observe (normal s 0.001) 3.0) p)"""
    found = flows.infer(Model.from_program(text), method="smc", num_particles=3000)
    assert not found.is_trusted
    (caution,) = [c for c in found.cautions if "where doubles end" in c.what]
    assert caution.remedy.startswith("Sample logarithms")


def test_logarithms_are_sampled_as_the_caution_says():
    """That of 1 - r, r of (beta 1 0.05), is that of two gammas."""
    (doubt,) = trained(BETA).sample(num_particles=500).doubts
    assert "(beta a b) is 1 / (1 + exp(v - u))" in doubt.remedy
    text = """(let [f (sample (gamma 2 1)) d (sample (exponential 1))
      g (sample (gamma 1.05 1)) e (sample (exponential 0.05))
      u (- (log f) d) v (- (log g) e) r (/ 1 (+ 1 (exp (- v u))))]
      (observe (flip r) true) r)"""
    particles = trained(text).sample(num_particles=20_000)
    totals = particles.totals
    assert not particles.doubts
    exact, error = -math.log(1.05), totals.log_evidence_standard_error
    assert totals.log_evidence == pytest.approx(exact, abs=4 * error + 1e-3)
