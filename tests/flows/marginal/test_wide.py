"""Tests of flows.marginal.wide: tables that are computed as one."""

import itertools
import math

import pytest
import torch

from flows.front.inference import infer
from flows.marginal.target import collapse
from flows.model.model import Model
from tests.flows.model.programs import graph_of

FLIPS = " ".join(f"d{d} (sample (flip 0.{d + 2}))" for d in range(7))
FACTORS = " ".join(f"(if d{d} 0.{d + 1} 1.0)" for d in range(7))


def model_of(text):
    return Model.from_graph(graph_of(text))


def enumerated(model, observed):
    """Return all rows of flips, and their log joint."""
    rows = torch.tensor(
        list(itertools.product([0.0, 1.0], repeat=model.layout.latent_dim)),
        dtype=torch.float64,
    )
    return rows, model.forgiving().log_joint(rows, observed)


@pytest.mark.parametrize(
    ("own", "observes"),
    [
        (
            "",
            f"(observe (flip (- 1.0 (* 0.9 {FACTORS}))) true)"
            f" (observe (normal (* 2.0 {FACTORS}) 0.5) 1.5)",
        ),
        (f"e (sample (flip (* 0.9 {FACTORS})))", "(observe (normal (if e 1 0) 1) 0.3)"),
        # Without meaning where d0 holds and d1 does not; impossible there besides.
        (
            "",
            f"(observe (flip (if d0 (if d1 0.5 0.0) (* 0.7 {FACTORS}))) true)"
            f" (observe (normal 0 (* {FACTORS} (if d0 (if d1 1 0) 1))) 0.2)",
        ),
    ],
)
def test_a_wide_table_has_the_evidence_and_marginals_of_enumeration(own, observes):
    model = model_of(f"(let [{FLIPS} {own}] {observes} d0)")
    rows, terms = enumerated(model, model.observation())
    answer = infer(model)
    assert answer.method == "exact"
    assert answer.is_trusted
    assert math.isclose(answer.log_evidence, float(terms.logsumexp(0)), abs_tol=1e-10)
    means = terms.softmax(0) @ rows
    for mean, figures in zip(means.tolist(), answer.latents.values(), strict=True):
        assert math.isclose(figures.mean, mean, abs_tol=1e-10)


def test_a_wide_table_takes_data_row_by_row():
    model = model_of(
        f"(let [{FLIPS}] (observe (normal (* 2.0 {FACTORS}) 0.5) 1.5)"
        f" (observe (normal (+ 1.0 {FACTORS}) 1) 0) d0)"
    )
    data = torch.tensor([[1.5, 0.0], [0.3, -1.0], [-2.0, 4.0]], dtype=torch.float64)
    collapsed = collapse(model)
    assert collapsed.tables.wide
    found = collapsed.log_joint(data.new_zeros(3, 0), data)
    expected = torch.stack([enumerated(model, row)[1].logsumexp(0) for row in data])
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_two_counts_of_a_thousand_values_are_summed_exactly():
    answer = infer(
        model_of(
            "(let [a (sample (uniform-discrete 0 1000))"
            " b (sample (uniform-discrete 0 1000))]"
            " (observe (normal (+ a b) 1) 700.25) (+ a b))"
        )
    )
    ways = torch.cat([torch.arange(1, 1001), torch.arange(999, 0, -1)]).double()
    sums = torch.arange(1999).double()
    terms = torch.distributions.Normal(sums, 1.0).log_prob(
        torch.tensor(700.25, dtype=torch.float64)
    ) + torch.log(ways / 1e6)
    assert answer.method == "exact"
    assert math.isclose(answer.log_evidence, float(terms.logsumexp(0)), abs_tol=1e-10)
    mean = float(terms.softmax(0) @ sums)
    assert math.isclose(answer.returned.mean, mean, abs_tol=1e-9)
    assert answer.returned.mc_error == 0.0


def test_data_that_many_draws_share_make_one_table_of_all_rows():
    # Seen: two counts and eight observations of them took 5 s for a thousand draws.
    text = """(let [x (sample (normal 0 1))
                    a (sample (poisson 2)) b (sample (poisson 3))]
                (observe (poisson (+ 1 (* a b))) 7) (observe (normal x 1) 1) x)"""
    target = collapse(model_of(text))
    observed = target.observation()
    latents = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64).unsqueeze(1)
    shared = observed.expand(5, -1)
    entries = target._whole.entries(latents, shared, (5,))
    assert entries[2].shape[1] == 1
    assert len(entries[2]) > 64
    apart = target.log_joint(latents, shared.contiguous())
    torch.testing.assert_close(target.log_joint(latents, shared), apart)
