"""Tests of `infer` on programs with data, against long runs of NUTS.

What NUTS says is kept in `tests/oracles/posteriors.json`, made by `nuts.py` beside it.
"""

import json
import math
from pathlib import Path

import pytest

import flows

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "clj-programs" / "posteriors"
ORACLE = json.loads((ROOT / "tests" / "oracles" / "posteriors.json").read_text())

_NAMES = sorted(path.stem for path in PROGRAMS.glob("*.daphne"))
_QUICK = {"linear_regression", "student_regression", "gaussian_process"}
_CASES = [
    pytest.param(name, marks=[] if name in _QUICK else pytest.mark.long)
    for name in _NAMES
]


def data_of(name):
    """The name of a program's data: two ways to write a model share theirs."""
    return name.removesuffix("_non_centred")


def answer_of(name, **options):
    data = PROGRAMS / f"{data_of(name)}.csv"
    model = flows.Model.compile(PROGRAMS / f"{name}.daphne", data=data)
    return flows.infer(model, seed=0, **options)


def test_every_program_has_data_and_a_run_of_nuts_that_has_converged():
    assert {data_of(name) for name in _NAMES} == ORACLE.keys()
    for numbers in ORACLE.values():
        for known in numbers.values():
            assert known["r_hat"] < 1.01
            assert known["ess"] > 3000


@pytest.mark.parametrize("name", _CASES)
def test_the_posterior_is_that_of_nuts(name):
    answer = answer_of(name)
    assert answer.is_trusted, answer.cautions
    assert answer.log_evidence_standard_error < 0.1
    known = ORACLE[data_of(name)]
    assert len(answer.returned) == len(known)
    for found, right in zip(answer.returned, known.values(), strict=True):
        error = 3.0 * math.hypot(found.mc_error, right["mean_error"])
        assert abs(found.mean - right["mean"]) < 0.1 * right["sd"] + error
        # A standard deviation of n normal draws has a standard error of sd / √(2 n).
        own = 1.5 * found.sd / math.sqrt(2.0 * answer.ess)
        error = 3.0 * math.hypot(own, right["sd_error"])
        assert abs(found.sd - right["sd"]) < 0.05 * right["sd"] + error


@pytest.mark.long
def test_two_ways_to_write_a_hierarchy_have_one_evidence():
    centred, other = map(answer_of, ("hierarchical", "hierarchical_non_centred"))
    error = math.hypot(
        centred.log_evidence_standard_error, other.log_evidence_standard_error
    )
    assert abs(centred.log_evidence - other.log_evidence) < 4.0 * error


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "linear_regression",
        "logistic_regression",
        "autoregression",
        "student_regression",
        "hierarchical",
        "hidden_markov_model",
    ],
)
def test_a_flow_refined_for_the_data_is_a_proposal_with_the_same_evidence(name):
    answer = answer_of(name)
    bent = flows.refine(answer.model, answer.observed, budget="2m")
    particles = bent.sample(answer.observed, 20_000, seed=1)
    totals = particles.totals
    assert totals.ess_fraction > 0.5
    error = math.hypot(
        totals.log_evidence_standard_error, answer.log_evidence_standard_error
    )
    assert abs(totals.log_evidence - answer.log_evidence) < 5.0 * error
