"""Tests of flows.front.refinement, by `refine`."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import flows
from flows.errors import FlowsError
from tests.flows.model.programs import graph_of

from ..conftest import pair_document
from .conftest import model_of

FEW = {
    "max_iterations": 50,
    "report_every": 25,
    "num_certifications": 1,
    "certify_draws": 200,
    "normalisation_draws": 4000,
    "augment": 0,
    "flow": {"layers": 2, "hidden": 4},
}


def model_from(text):
    return flows.Model.from_graph(graph_of(text))


def refined(model, *arguments, **options):
    return flows.refine(model, *arguments, config=FEW, engine="torch", **options)


def exact_pair(x=0.5, y=1.5):
    """Return the posterior of a and b as a normal, and the log evidence."""
    mean = np.array([1.0, 2.0, 1.0, 2.0])
    root = np.array(
        [[2, 0, 0, 0], [4, 1, 0, 0], [2, 0, 1, 0], [4, 1, 0, 0.5]], dtype=float
    )
    covariance = root @ root.T
    given = np.array([x, y]) - mean[2:]
    gain = covariance[:2, 2:] @ np.linalg.inv(covariance[2:, 2:])
    return (
        stats.multivariate_normal(
            mean[:2] + gain @ given, covariance[:2, :2] - gain @ covariance[2:, :2]
        ),
        stats.multivariate_normal(mean[2:], covariance[2:, 2:]).logpdf([x, y]),
    )


def test_the_flow_becomes_the_normal_posterior_of_its_data(model):
    bent = refined(model)
    posterior, evidence = exact_pair()
    points = posterior.rvs(500, random_state=1)
    gap = bent.log_prob(torch.from_numpy(points)).numpy() - posterior.logpdf(points)
    assert abs(gap.mean()) < 0.02
    particles = bent.sample(None, 5000, seed=1)
    assert particles.totals.ess_fraction > 0.97
    error = particles.totals.log_evidence_standard_error
    assert abs(particles.totals.log_evidence - evidence) < 5 * error
    assert bent.metrics["begun_from"] == "nothing"
    assert all(not block.observed_columns for block in bent.flow.structure.blocks)


def line(scale):
    """A regression under priors a thousand times wider than its posterior."""
    rows = " ".join(f"{1.5 * x - 7 + 2 * math.sin(5 * x):.1f}" for x in range(30))
    return model_from(
        f"""(let [a (sample (normal 0 1000)) b (sample (normal 0 1000)) s {scale}]
              (foreach 30 [x (range 30) y [{rows}]]
                (observe (normal (+ a (* b x)) s) y))
              a)"""
    )


def test_a_posterior_far_narrower_than_its_prior_is_met():
    bent = refined(line("1.5"))
    assert bent.metrics["ess_fraction"] > 0.8
    assert bent.metrics["ok"]


def test_a_posterior_with_a_heavier_tail_than_the_flow_is_met_and_said():
    """With an unknown scale a and b have Student's t, which no normal bounds."""
    bent = refined(line("(sample (half-cauchy 10))"))
    assert bent.metrics["ess_fraction"] > 0.8
    assert bent.metrics["ok"] == (bent.metrics["k_hat"] <= 0.7)
    assert bent.metrics["ok"] or "heavy a tail" in bent.metrics["cautions"][0]


def test_data_it_was_not_refined_for_are_weighed_rightly_and_named(model):
    bent = refined(model)
    assert not bent.cautions()
    other = {"observe3": 0.9, "observe4": 1.5}
    (caution,) = bent.cautions(other)
    assert "other data" in str(caution)
    particles = bent.sample(other, 20_000, seed=3, proposal="mixture")
    _, evidence = exact_pair(x=0.9)
    error = particles.totals.log_evidence_standard_error
    assert abs(particles.totals.log_evidence - evidence) < 5 * error


def test_the_data_are_kept_on_disk_and_follow_the_columns_of_another_document(
    model, tmp_path
):
    bent = refined(model, {"observe3": 0.25, "observe4": -2.0})
    bent.save(tmp_path / "bent")
    again = flows.load(tmp_path / "bent", model)
    assert again.refined_for.tolist() == [0.25, -2.0]
    mirrored = model_of(pair_document(numbers=(7, 8, 9, 10), reverse=True))
    names = [v.name for v in mirrored.layout.observed]
    other = flows.load(tmp_path / "bent", mirrored)
    assert dict(zip(names, other.refined_for.tolist(), strict=True)) == {
        "observe9": 0.25,
        "observe10": -2.0,
    }
    assert not other.cautions({"observe9": 0.25, "observe10": -2.0})


def test_a_flow_that_is_good_at_the_data_goes_on_from_where_it_is(posterior):
    def worth(each):
        return each.sample(None, 4000, seed=2).totals.ess_fraction

    bent = posterior.refine(config={**FEW, "max_iterations": 30}, engine="torch")
    assert bent.metrics["begun_from"] == "the trained flow"
    assert bent.flow.structure == posterior.flow.structure
    assert worth(bent) > worth(posterior) - 0.02
    assert posterior.refined_for is None


def test_a_flow_that_is_useless_at_the_data_is_not_begun_from(posterior):
    far = {"observe3": 40.0, "observe4": -90.0}
    bent = posterior.refine(far, config=FEW, engine="torch")
    assert bent.metrics["begun_from"] == "nothing"
    assert bent.metrics["ess_fraction"] > 0.9


def test_a_mixed_model_is_refined_where_its_discrete_latents_are_summed_out():
    model = model_from(
        """(let [k (sample (flip 0.3)) m (sample (normal (if k 4 0) 1))]
             (observe (normal m 1) 1.5) m)"""
    )
    bent = refined(model)
    one = 0.3 * stats.norm.pdf(1.5, 4, math.sqrt(2))
    none = 0.7 * stats.norm.pdf(1.5, 0, math.sqrt(2))
    particles = bent.sample(None, 10_000, seed=1)
    totals = particles.totals
    error = totals.log_evidence_standard_error
    assert abs(totals.log_evidence - math.log(one + none)) < 5 * error
    column = model.layout.variable(model.graph.latents[0]).start
    found, errors = particles.mean(), particles.mean_standard_error()
    assert abs(float(found[column]) - one / (one + none)) < 5 * float(errors[column])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("(sample (normal 0 1))", "observes nothing"),
        ("(let [k (sample (poisson 3))] (observe (normal k 1) 1) k)", "no continuous"),
    ],
)
def test_what_cannot_be_refined_is_said(text, what):
    with pytest.raises(FlowsError, match=what):
        refined(model_from(text))


def test_data_that_nothing_explains_are_refused():
    model = model_from(
        "(let [z (sample (uniform 0 1))] (observe (uniform (+ z 5) (+ z 6)) 2) z)"
    )
    with pytest.raises(FlowsError, match="explains the data") as caught:
        refined(model)
    ending = "; expected data that the model can draw; got observe1 = 2"
    assert str(caught.value).endswith(ending)
