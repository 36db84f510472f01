"""Tests of flows.marginal.elimination against brute force over all configurations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from flows.marginal import joins, passes
from flows.marginal.elimination import Elimination, Table
from flows.marginal.order import elimination_order
from flows.marginal.target import target_of
from flows.model.model import Model


@st.composite
def problems(draw):
    """Cardinalities, scopes and a seed of the numbers."""
    cards = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    scope = st.lists(
        st.integers(0, len(cards) - 1), min_size=0, max_size=3, unique=True
    )
    scopes = draw(st.lists(scope, min_size=1, max_size=14))
    return cards, scopes, draw(st.integers(0, 2**31))


def tables_of(cards, scopes, rng, *, impossible=0.1, rows=3):
    """Tables with shared entries, and numbers for them."""
    tables, count = [], 0
    for scope in scopes:
        size = math.prod(cards[v] for v in scope)
        entries = count + rng.integers(0, size, size=[cards[v] for v in scope])
        tables.append(Table(tuple(scope), np.asarray(entries, dtype=np.int64)))
        count += size
    numbers = rng.normal(size=(max(count, 1), rows))
    numbers[rng.random(numbers.shape) < impossible] = -np.inf
    return tables, torch.from_numpy(numbers)


def scores(cards, tables, numbers):
    """Σ T for every configuration, [configuration, row]."""
    every = list(itertools.product(*(range(c) for c in cards)))
    found = np.zeros((len(every), numbers.shape[1]))
    for i, values in enumerate(every):
        for table in tables:
            found[i] += numbers[table.entries[tuple(values[v] for v in table.scope)]]
    return every, found


def log_sum(found):
    with np.errstate(divide="ignore"):
        return np.log(np.exp(found).sum(0))


@given(problems())
@settings(max_examples=150)
def test_log_sum_is_that_of_brute_force(problem):
    cards, scopes, seed = problem
    tables, numbers = tables_of(cards, scopes, np.random.default_rng(seed))
    elimination = Elimination(cards, tables)
    _, found = scores(cards, tables, numbers.numpy())
    np.testing.assert_allclose(
        elimination.log_sum([numbers]).numpy(), log_sum(found), atol=1e-12
    )


@pytest.mark.parametrize("at_once", [1, 20, 2**17])
@given(problems())
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_marginals_and_gradients_are_those_of_brute_force(
    monkeypatch, at_once, problem
):
    monkeypatch.setattr(joins, "_AT_ONCE", at_once)
    cards, scopes, seed = problem
    rng = np.random.default_rng(seed)
    tables, numbers = tables_of(cards, scopes, rng, impossible=0.0)
    elimination = Elimination(cards, tables)
    every, found = scores(cards, tables, numbers.numpy())
    weights = np.exp(found - log_sum(found))
    for variable, marginal in enumerate(elimination.marginals([numbers])):
        for value in range(cards[variable]):
            chosen = [v[variable] == value for v in every]
            np.testing.assert_allclose(
                marginal[value].numpy(), weights[chosen].sum(0), atol=1e-12
            )
    numbers.requires_grad_()
    elimination.log_sum([numbers]).sum().backward()
    counts = np.zeros((len(every), len(numbers)))
    for i, values in enumerate(every):
        for table in tables:
            counts[i, table.entries[tuple(values[v] for v in table.scope)]] += 1
    gradient = numbers.grad if numbers.grad is not None else torch.zeros_like(numbers)
    np.testing.assert_allclose(gradient.numpy(), counts.T @ weights, atol=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_draws_have_the_probabilities_of_their_configurations(seed):
    rng = np.random.default_rng(seed)
    cards, scopes = [2, 3, 2, 2], [[0, 1], [1, 2], [2, 3], [3, 0], [1]]
    tables, numbers = tables_of(cards, scopes, rng, rows=1)
    elimination = Elimination(cards, tables)
    every, found = scores(cards, tables, numbers.numpy())
    expected = np.exp(found[:, 0] - log_sum(found)[0])
    num = 20_000
    generator = torch.Generator().manual_seed(seed)
    drawn = elimination.sample([numbers], num, generator=generator)
    counts = np.zeros(len(every))
    np.add.at(counts, np.ravel_multi_index(drawn.numpy(), cards), 1)
    assert (counts[expected == 0] == 0).all()
    kept = expected > 0
    statistic = ((counts - num * expected)[kept] ** 2 / (num * expected[kept])).sum()
    assert chi2.sf(statistic, kept.sum() - 1) > 1e-6


def test_each_row_is_drawn_from_its_own_numbers():
    numbers = torch.full((2, 2), -torch.inf, dtype=torch.float64)
    numbers[0, 0] = numbers[1, 1] = 0.0
    elimination = Elimination([2], [Table((0,), np.array([0, 1]))])
    drawn = elimination.sample([numbers], 2, generator=torch.Generator().manual_seed(0))
    assert drawn.tolist() == [[0, 1]]


def test_a_variable_of_many_tables_is_joined_by_a_product():
    rng = np.random.default_rng(3)
    cards, scopes = [5, 2], [[0]] * 40 + [[0, 1]]
    tables, numbers = tables_of(cards, scopes, rng)
    elimination = Elimination(cards, tables)
    _, found = scores(cards, tables, numbers.numpy())
    np.testing.assert_allclose(
        elimination.log_sum([numbers]).numpy(), log_sum(found), atol=1e-11
    )


def test_impossible_rows_have_gradient_zero():
    numbers = torch.full((2, 1), -torch.inf, dtype=torch.float64, requires_grad=True)
    elimination = Elimination([2], [Table((0,), np.array([0, 1]))])
    found = elimination.log_sum([numbers])
    assert found.tolist() == [-math.inf]
    found.sum().backward()
    assert numbers.grad.tolist() == [[0.0], [0.0]]


def test_a_chain_is_folded_in_few_rounds_and_a_mixture_in_one():
    chain = [[t, t + 1] for t in range(1023)]
    assert len(elimination_order([3] * 1024, chain).rounds) <= 12
    assert len(elimination_order([5] * 1000, [[t] for t in range(1000)]).rounds) == 1


def test_a_wide_network_is_not_made_wider_by_rounds():
    rng = np.random.default_rng(0)
    scopes = [
        sorted({t, *rng.integers(max(0, t - 11), t + 1, size=3).tolist()})
        for t in range(40)
    ]
    order = elimination_order([2] * 40, scopes)
    assert order.largest <= 2**13
    assert sorted(v for part in order.rounds for v in part) == list(range(40))


def test_numbers_that_all_rows_share_may_stand_once():
    rng = np.random.default_rng(5)
    shared = torch.from_numpy(rng.normal(size=(4, 1)))
    own = torch.from_numpy(rng.normal(size=(2, 3)))
    tables = [
        Table((0, 1), np.arange(4).reshape(2, 2), 0),
        Table((1,), np.arange(2), 1),
    ]
    apart = Elimination([2, 2], tables, num_blocks=2)
    wide = [shared.expand(4, 3), own]
    torch.testing.assert_close(apart.log_sum([shared, own]), apart.log_sum(wide))
    same = [
        apart.sample(b, 3, generator=torch.Generator().manual_seed(1))
        for b in ([shared, own], wide)
    ]
    assert torch.equal(*same)


@pytest.mark.parametrize(
    ("most", "at_once"), [(1, 2**17), (300, 1), (2_000, 100), (2**25, 1), (2**25, 300)]
)
def test_rows_in_parts_give_the_sums_and_gradients_of_all_at_once(
    monkeypatch, most, at_once
):
    model = Model.compile("clj-programs/gaussian_mixture.daphne")
    target, observed = target_of(model), model.observation()
    rows = target.sample_latents(
        30, generator=torch.Generator().manual_seed(0), observed=observed
    )

    def with_gradients(rows):
        leaf = rows.clone().requires_grad_()
        found = target.log_joint(leaf, observed)
        return found.detach(), *torch.autograd.grad(found.sum(), leaf)

    one_by_one = [with_gradients(rows[k : k + 1]) for k in range(len(rows))]
    monkeypatch.setattr(passes, "_MOST_NUMBERS", most)
    monkeypatch.setattr(joins, "_AT_ONCE", at_once)
    for found, each in zip(
        with_gradients(rows), zip(*one_by_one, strict=True), strict=True
    ):
        torch.testing.assert_close(found, torch.cat(each), rtol=1e-12, atol=1e-12)
    drawn = target.complete(rows, observed, generator=torch.Generator().manual_seed(1))
    assert len(drawn) == 30


@pytest.mark.parametrize(("values", "is_product"), [(8, True), (400, False)])
def test_many_tables_of_many_values_are_joined_without_a_large_matrix(
    values, is_product
):
    # Seen: 60 observations of a count of 2,000 values made a matrix of 2,000 times
    # 120,000 numbers, and a minute of work of what is a second's.
    places = np.arange(30 * values).reshape(30, values)
    elimination = Elimination([values], [Table((0,), each) for each in places])
    (join,) = elimination._joins
    assert any(read.counts is not None for read in join.left) == is_product
    numbers = np.random.default_rng(0).normal(size=(30 * values, 2))
    expected = np.logaddexp.reduce(numbers.reshape(30, values, 2).sum(0))
    found = elimination.log_sum([torch.from_numpy(numbers)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
