"""Tests of flows.marginal.collapsed against sums over all configurations."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import chi2

from flows.errors import ModelError
from flows.marginal.target import collapse
from flows.model.model import Model
from tests.flows.model.programs import PROGRAMS, graph_of

GALLERY = Path(__file__).parents[3] / "clj-programs"
DISCRETE = (
    "alarm",
    "sprinkler",
    "hidden_markov_model",
    "gaussian_mixture",
    "topics",
    "change_point",
    "sensor_failure",
)
OWN = {
    "family by a branch": """
(let [k (sample (flip 0.3))
      x (sample (if k (normal 0 1) (gamma 2 1)))]
  (observe (normal x 1) 0.7)
  x)""",
    "bounds by a branch": """
(let [k (sample (uniform-discrete 1 4))
      x (sample (uniform-continuous (- k) (* 2 k)))
      y (sample (uniform-continuous x (+ x k)))]
  (observe (normal y 1) 0.7)
  [k x y])""",
    "random number of trials": """
(let [n (sample (uniform-discrete 0 4))
      k (sample (binomial n 0.4))
      x (sample (normal k 1))]
  (observe (binomial n 0.5) 1)
  (observe (normal x 1) 0.7)
  [n k x])""",
    "categories": """
(let [c (sample (categorical [[:red 0.2] [:green 0.5] [:blue 0.3]]))
      m (sample (normal (get {:red 1.0 :green 2.0 :blue 4.0} c) 1))
      d (sample (categorical [[10 (exp m)] [20 2]]))]
  (observe (normal (+ m d) (if (= c :green) 0.5 2)) 12.0)
  [c m d])""",
    "a chain of order two": """
(defn step [t pair rows y]
  (let [a (get pair 0) b (get pair 1)
        z (sample (discrete (get (get rows a) b)))]
    (observe (normal (- z (* 2 a)) 1) (get y t))
    [b z]))
(let [rows [[[0.9 0.1] [0.3 0.7]] [[0.6 0.4] [0.2 0.8]]]
      m (sample (normal 0 1))
      start [(sample (discrete [0.5 0.5])) (sample (discrete [0.2 0.8]))]]
  (loop 5 start step rows [0.3 -1.0 (+ 0.7 0) 1.9 0.1])
  (observe (normal m 1) 0.5))""",
    "equal link functions of other values": """
(let [a (sample (flip 0.3))
      b (sample (bernoulli 0.3))
      x (sample (discrete (if (= a true) [0.2 0.8] [0.5 0.5])))
      y (sample (discrete (if (= b true) [0.2 0.8] [0.5 0.5])))]
  (observe (normal x 1) 0.3)
  (observe (normal y 1) 0.7)
  [a b x y])""",
    "a latent reads data": """
(let [k (sample (flip 0.3))
      y (observe (normal (if k 1 -1) 1) 0.4)
      x (sample (normal (+ y (if k 2 0)) 1))]
  (observe (normal x 1) 1.0)
  x)""",
}


def model_of(name):
    if name in OWN:
        return Model.from_graph(graph_of(OWN[name]))
    if name in PROGRAMS:
        return Model.from_graph(graph_of(PROGRAMS[name]))
    return Model.from_graph(graph_of((GALLERY / f"{name}.daphne").read_text()))


def configurations(model, collapsed):
    """Every configuration as columns of the full model: names, codes."""
    codes = [
        range(len(values))
        if model.categories(name)
        else [float(value) for value in values]
        for name, values in collapsed.tables.values.items()
    ]
    variables = [model.layout.variable(name) for name in collapsed.tables.discrete]
    return [v.start for v in variables], list(itertools.product(*codes))


def kept_columns(model, collapsed):
    return [
        column
        for variable in model.layout.latents
        if variable.name not in collapsed.tables.values
        for column in range(variable.start, variable.stop)
    ]


def by_enumeration(model, collapsed, latents, observed):
    """Log joint of every configuration, [configuration, row]."""
    columns, codes = configurations(model, collapsed)
    num, width = len(latents), model.layout.latent_dim
    full = latents.new_zeros(len(codes), num, width)
    full[..., kept_columns(model, collapsed)] = latents
    full[..., columns] = latents.new_tensor(codes).unsqueeze(1)
    data = observed.expand(num, -1).repeat(len(codes), 1)
    return model.log_joint(full.reshape(-1, width), data).reshape(-1, num)


@pytest.mark.parametrize("name", [*DISCRETE, *OWN, "mixture", "branches", "colours"])
def test_the_density_is_the_sum_over_all_configurations(name):
    model = model_of(name)
    collapsed = collapse(model)
    generator = torch.Generator().manual_seed(0)
    latents = collapsed.sample(20, generator=generator).latents
    observed = model.observation()
    expected = by_enumeration(model, collapsed, latents, observed).logsumexp(0)
    found = collapsed.log_joint(latents, observed)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["gaussian_mixture", "change_point", "colours"])
def test_gradients_are_those_of_the_sum(name):
    model = model_of(name)
    collapsed = collapse(model)
    generator = torch.Generator().manual_seed(1)
    latents = collapsed.sample(5, generator=generator).latents
    found, expected = latents.clone().requires_grad_(), latents.clone().requires_grad_()
    collapsed.log_joint(found, model.observation()).sum().backward()
    by_enumeration(model, collapsed, expected, model.observation()).logsumexp(
        0
    ).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ["sensor_failure", "topics", "categories"])
def test_discrete_latents_are_drawn_from_their_posterior(name):
    model = model_of(name)
    collapsed = collapse(model)
    generator = torch.Generator().manual_seed(2)
    one = collapsed.sample(1, generator=generator).latents
    observed = model.observation()
    terms = by_enumeration(model, collapsed, one, observed)[:, 0]
    expected = torch.softmax(terms, 0)
    num = 20_000
    full = collapsed.complete(one.expand(num, -1), observed, generator=generator)
    kept = full[:, kept_columns(model, collapsed)]
    assert torch.equal(kept, one.expand(num, -1))
    columns, codes = configurations(model, collapsed)
    place = {tuple(map(float, values)): i for i, values in enumerate(codes)}
    counts = torch.zeros(len(codes), dtype=torch.float64)
    for row in full[:, columns].tolist():
        counts[place[tuple(row)]] += 1
    assert (counts[expected == 0] == 0).all()
    kept_terms = num * expected > 1e-3
    statistic = (
        ((counts - num * expected) ** 2 / (num * expected))[kept_terms].sum().item()
    )
    assert chi2.sf(statistic, int(kept_terms.sum()) - 1) > 1e-6


@pytest.mark.parametrize("name", ["family by a branch", "bounds by a branch"])
def test_free_coordinates_cover_the_union_of_the_supports(name):
    model = model_of(name)
    collapsed = collapse(model)
    latents = collapsed.sample(200, generator=torch.Generator().manual_seed(3)).latents
    free, _ = collapsed.unconstrain(latents)
    again, _ = collapsed.constrain(free)
    torch.testing.assert_close(again, latents, atol=1e-9, rtol=1e-9)


def test_marginals_are_those_of_the_posterior():
    model = model_of("sensor_failure")
    collapsed = collapse(model)
    latents = torch.tensor([[24.0], [0.0]], dtype=torch.float64)
    terms = by_enumeration(model, collapsed, latents, model.observation())
    entries = collapsed.entries(latents, model.observation())
    (found,) = collapsed.tables.elimination.marginals(entries)
    torch.testing.assert_close(found, torch.softmax(terms, 0))


@pytest.mark.parametrize(
    ("program", "log_evidence"),
    [
        ("(let [k (sample (poisson 3))] (observe (normal k 1) 5) k)", -2.231297),
        (
            "(let [n (sample (poisson 2)) k (sample (binomial n 0.5))]"
            " (observe (normal k 1) 1.5) k)",
            None,
        ),
    ],
)
def test_a_counted_latent_is_summed_up_to_where_nothing_is_left(program, log_evidence):
    collapsed = collapse(Model.from_graph(graph_of(program)))
    none = torch.zeros(1, 0, dtype=torch.float64)
    found = float(collapsed.log_joint(none, collapsed.observation()))
    if log_evidence is None:  # k is poisson with half of the rate
        terms = [
            -1.0 + k * 0.0 - math.lgamma(k + 1) - 0.5 * (k - 1.5) ** 2
            for k in range(60)
        ]
        log_evidence = math.log(sum(map(math.exp, terms))) - 0.5 * math.log(2 * math.pi)
    assert found == pytest.approx(log_evidence, abs=1e-6)
    assert collapsed.tables.truncated


@pytest.mark.parametrize("rate", ["(if z 0 r)", "(* (if z 0 1) r)"])
def test_excess_zeros_may_be_counts_at_a_rate_of_zero(rate):
    counts = [0, 0, 3, 0, 1]
    text = (
        "(let [q (sample (beta 2 2)) r (sample (gamma 2 1))] (foreach 5 [y"
        f" {counts}] (let [z (sample (flip q))] (observe (poisson {rate}) y))) q)"
    )
    collapsed = collapse(Model.from_graph(graph_of(text)))
    rows = torch.tensor([[0.3, 1.5], [0.6, 0.4]], dtype=torch.float64)
    rows.requires_grad_()
    found = collapsed.log_joint(rows, collapsed.observation())
    (slopes,) = torch.autograd.grad(found.sum(), rows)

    def expected(q, r):
        terms = (1 - q) * stats.poisson.pmf(counts, r) + q * (np.array(counts) == 0)
        prior = stats.beta.logpdf(q, 2, 2) + stats.gamma.logpdf(r, 2)
        return prior + np.log(terms).sum()

    for (q, r), value, slope in zip(rows.tolist(), found.tolist(), slopes, strict=True):
        assert value == pytest.approx(expected(q, r), abs=1e-12)
        right = (expected(q, r + 1e-6) - expected(q, r - 1e-6)) / 2e-6
        assert float(slope[1]) == pytest.approx(right, abs=1e-6)


def test_a_support_without_end_is_cut_where_the_prior_has_nothing_left():
    text = (
        "(let [r (sample (gamma 2 1)) k (sample (poisson r))]"
        " (observe (normal k 1) 5) [r k])"
    )
    collapsed = collapse(Model.from_graph(graph_of(text)))
    rates = torch.tensor([[0.5], [2.0], [9.0]], dtype=torch.float64)
    observed = collapsed.observation()
    found = collapsed.log_joint(rates, observed)
    for rate, value in zip(rates[:, 0].tolist(), found.tolist(), strict=True):
        terms = stats.poisson.pmf(range(200), rate) * stats.norm.pdf(range(200), 5, 1)
        expected = stats.gamma.logpdf(rate, 2) + math.log(terms.sum())
        assert value == pytest.approx(expected, abs=1e-9)
    cut = collapsed.tables.values[collapsed.tables.discrete[0]][-1]
    far = torch.tensor([[float(cut)]], dtype=torch.float64)
    beyond = stats.poisson.sf(cut, cut)
    assert float(collapsed.left_out(far, observed)) == pytest.approx(beyond, abs=1e-6)
    assert float(collapsed.left_out(rates, observed).max()) < 1e-8


def test_bounds_that_depend_on_a_continuous_latent_are_refused_in_a_sentence():
    graph = graph_of(
        "(let [r (sample (gamma 2 1)) k (sample (uniform-discrete 0 (+ 2 (floor r))))]"
        " (observe (normal k 1) 5) k)"
    )
    with pytest.raises(ModelError, match="not finitely many"):
        collapse(Model.from_graph(graph))


def test_an_invalid_parameter_matters_only_where_its_configuration_is_possible():
    text = """
(let [k (sample (categorical [[1 0.5] [0 {}]]))]
  (observe (normal 0 k) 0.5) k)"""
    fine = collapse(Model.from_graph(graph_of(text.format("0.0"))))
    none = torch.zeros(1, 0, dtype=torch.float64)
    found = float(fine.log_joint(none, fine.observation()))
    assert found == pytest.approx(-0.125 - 0.5 * math.log(2 * math.pi))
    bad = collapse(Model.from_graph(graph_of(text.format("0.5"))))
    with pytest.raises(ModelError, match="without meaning"):
        bad.log_joint(none, bad.observation())


def test_no_rows_have_no_densities():
    collapsed = collapse(Model.from_graph(graph_of(OWN["family by a branch"])))
    rows = torch.zeros(0, 1, dtype=torch.float64, requires_grad=True)
    found = collapsed.log_joint(rows, collapsed.model.observation())
    assert found.shape == (0,)
    (slope,) = torch.autograd.grad(found.sum(), rows)
    assert slope.shape == rows.shape
