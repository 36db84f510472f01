"""Tests of flows.marginal.folding: sums of many discrete latents, by convolution."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flows.front.inference import infer
from flows.marginal import node_tables
from flows.marginal.target import collapse
from flows.model.model import Model
from tests.flows.model.programs import graph_of


def model_of(text):
    return Model.from_graph(graph_of(text))


def flips(number, chance="0.5"):
    return " ".join(f"c{i} (sample (flip {chance}))" for i in range(number))


def ones(number):
    return " ".join(f"(if c{i} 1 0)" for i in range(number))


def test_forty_coins_whose_sum_is_observed_are_summed_exactly():
    found = infer(
        model_of(
            f"(let [{flips(40, 0.3)}] (observe (normal (+ {ones(40)}) 1) 16.0) c0)"
        )
    )
    k = np.arange(41)
    terms = stats.binom.pmf(k, 40, 0.3) * stats.norm.pdf(16.0, k, 1)
    assert found.method == "exact"
    assert found.log_evidence == pytest.approx(math.log(terms.sum()), abs=1e-10)
    assert found.returned.mean == pytest.approx(terms @ k / terms.sum() / 40)


def test_coins_of_unequal_worth_are_summed_exactly():
    worth = [1 + i % 7 for i in range(24)]
    parts = " ".join(f"(if c{i} {w} 0)" for i, w in enumerate(worth))
    text = f"(let [{flips(24)}] (observe (normal (sum [{parts}]) 2) 40.0) c6)"
    total = np.ones(1)
    for w in worth:
        total = np.convolve(total, [0.5, *[0] * (w - 1), 0.5])
    expected = total @ stats.norm.pdf(40.0, np.arange(total.size), 2)
    assert infer(model_of(text)).log_evidence == pytest.approx(math.log(expected))


def test_a_running_count_that_is_observed_at_every_step_is_a_chain():
    rng = np.random.default_rng(0)
    data = np.cumsum(rng.random(30) < 0.4) + rng.normal(0, 0.5, 30)
    lines = ["n0 0"]
    for t, value in enumerate(data):
        lines += [
            f"c{t} (sample (flip 0.4))",
            f"n{t + 1} (+ n{t} (if c{t} 1 0))",
            f"_{t} (observe (normal n{t + 1} 0.5) {value})",
        ]
    found = infer(model_of(f"(let [{' '.join(lines)}] n30)"))
    forward = np.zeros(31)
    forward[0] = 1.0
    for value in data:
        forward = 0.6 * forward + 0.4 * np.concatenate([[0.0], forward[:-1]])
        forward *= stats.norm.pdf(value, np.arange(31), 0.5)
    assert found.log_evidence == pytest.approx(math.log(forward.sum()), abs=1e-9)
    assert found.returned.mean == pytest.approx(
        forward @ np.arange(31) / forward.sum(), abs=4 * found.returned.mc_error + 1e-9
    )


def test_a_sum_beside_a_continuous_latent_is_folded():
    collapsed = collapse(
        model_of(
            f"(let [x (sample (normal 0 2)) {flips(20)}]"
            f" (observe (normal (+ (+ x (if c0 1 0)) {ones(20)}) 1) 12.0) x)"
        )
    )
    rows = torch.tensor([[0.3], [-1.2]], dtype=torch.float64)
    found = collapsed.log_joint(rows, collapsed.observation())
    k = np.arange(20)
    rest = stats.binom.pmf(k, 19, 0.5)
    for row, value in zip(rows[:, 0].tolist(), found.tolist(), strict=True):
        expected = 0.5 * sum(
            rest @ stats.norm.pdf(12.0, row + first + k, 1) for first in (0, 2)
        )
        assert value == pytest.approx(
            stats.norm.logpdf(row, 0, 2) + math.log(expected), abs=1e-10
        )


PARTS = st.recursive(
    st.sampled_from(["(if c0 1 0)", "(if c1 2 0)", "(if c2 1 -1)", "k", "2"]),
    lambda inner: (
        st.builds("({} {} {} {})".format, st.sampled_from("+*"), inner, inner, inner)
        | st.builds("(if (< {} {}) {} {})".format, inner, inner, inner, inner)
        | st.builds("(max {} {})".format, inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=25)
@given(part=PARTS, other=PARTS)
def test_folded_programs_have_the_evidence_of_enumeration(part, other):
    text = (
        f"(let [{flips(3, 0.4)} k (sample (uniform-discrete 0 3))]"
        f" (observe (normal {part} 2) 1.5) (observe (normal {other} 1) 0.5) k)"
    )
    model = model_of(text)
    rows = torch.tensor(
        list(itertools.product([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0, 2.0])),
        dtype=torch.float64,
    )
    expected = model.log_joint(rows, model.observation()).logsumexp(0)
    with pytest.MonkeyPatch.context() as limits:
        for name in ("_UNFOLDED_OWN", "_UNFOLDED_ENTRIES", "NARROW"):
            limits.setattr(node_tables, name, 1)
        collapsed = collapse(model)
    none = torch.zeros(1, 0, dtype=torch.float64)
    found = collapsed.log_joint(none, model.observation())
    assert float(found) == pytest.approx(float(expected), abs=1e-10)


def test_a_wide_support_is_cut_on_both_sides():
    found = infer(
        model_of(
            "(let [n (sample (poisson 20000))] (observe (normal n 300) 20400.0) n)"
        ),
        num_particles=200,
    )
    k = np.arange(18000, 23000)
    terms = stats.poisson.logpmf(k, 20000) + stats.norm.logpdf(20400.0, k, 300)
    weights = np.exp(terms - terms.max())
    expected = terms.max() + math.log(weights.sum())
    assert found.log_evidence == pytest.approx(expected, abs=1e-9)
    assert found.returned.mean == pytest.approx(weights @ k / weights.sum())


EPIDEMIC = """
(defn step [t state rate]
  (let [s (:s state) i (:i state)
        new (sample (binomial s (- 1 (exp (- (/ (* rate i) 10.0))))))
        well (sample (binomial i 0.4))]
    (observe (binomial new 0.8) (nth [1 2 1] t))
    {:s (- s new) :i (- (+ i new) well)}))
(let [rate (sample (gamma 2 2))]
  (loop 3 {:s 9 :i 1} step rate)
  rate)"""


def epidemic(rate):
    """The evidence, forward over the states that are reached."""
    states = {(9, 1): 1.0}
    for seen in [1, 2, 1]:
        after = Counter()
        for (s, i), mass in states.items():
            for new, well in itertools.product(range(s + 1), range(i + 1)):
                chance = stats.binom.pmf(new, s, 1 - math.exp(-rate * i / 10))
                chance *= stats.binom.pmf(well, i, 0.4) * stats.binom.pmf(
                    seen, new, 0.8
                )
                after[s - new, i + new - well] += mass * chance
        states = after
    return sum(states.values())


def test_what_folding_makes_wider_is_left_as_it_is():
    """Seen: 660,000 entries for each row where 44,000 do, and minutes of work."""
    model = collapse(Model.from_graph(graph_of(EPIDEMIC)))
    assert model.tables.row_entries <= 44_000
    rates = torch.tensor([[0.3], [1.7]], dtype=torch.float64)
    expected = [
        math.log(epidemic(float(rate))) + stats.gamma.logpdf(float(rate), 2, scale=0.5)
        for rate in rates
    ]
    found = model.log_joint(rates, model.observation())
    assert found.tolist() == pytest.approx(expected, abs=1e-10)
