"""Tests of flows.structured_gaussian.elimination, against dense normals of numpy."""

import numpy as np
import pytest
import torch
from scipy import stats

from flows.structured_gaussian.cliques import plan_of
from flows.structured_gaussian.elimination import Elimination, Information

SIZE = 8
SHAPES = {
    "chain": [(i, i + 1) for i in range(SIZE - 1)],
    "tree": [((i - 1) // 2, i) for i in range(1, SIZE)],
    "clique": [tuple(range(SIZE))],
    "mixed": [(0, 1, 2), (2, 5), (1, 4, 6), (3, 7), (0, 7)],
}


def dense(scopes, rows, seed=0):
    """Precision of all rows, and linear terms of each."""
    generator = np.random.default_rng(seed)
    precision = np.eye(SIZE)
    for scope in scopes:
        part = generator.normal(size=(len(scope), len(scope)))
        precision[np.ix_(scope, scope)] += part @ part.T
    return precision, generator.normal(size=(rows, SIZE))


def information(plan, precision, linear):
    """The same, each entry put where its last sampled column is eliminated."""
    entries, rows = [], []
    for number, batch in enumerate(plan.batches):
        for position, own in enumerate(batch.own):
            clique = own + batch.parents[position]
            part = torch.zeros(len(precision), batch.width, batch.width).double()
            said = torch.zeros(len(linear), batch.width).double()
            for i, a in enumerate(clique):
                for j, b in enumerate(clique):
                    if plan.place[max(a, b)] == (number, position):
                        part[:, i, j] = precision[:, a, b]
                if a in own:
                    said[:, i] = linear[:, a]
            entries.append(part.flatten(1))
            rows.append(said)
    return Information(torch.cat(entries, -1), torch.cat(rows, -1))


@pytest.fixture(params=SHAPES)
def scopes(request):
    return SHAPES[request.param]


def test_residuals_and_roots_are_the_density_of_the_normal(scopes):
    precision, linear = dense(scopes, rows=3)
    plan = plan_of(SIZE, scopes)
    elimination = Elimination(plan)
    given = elimination.conditionals(
        information(plan, torch.tensor(precision)[None], torch.tensor(linear))
    )
    points = np.random.default_rng(1).normal(size=(3, SIZE))
    residual = elimination.to_residual(torch.tensor(points), given).numpy()
    found = stats.norm.logpdf(residual).sum(-1)
    found += elimination.log_roots(given).sum(-1).numpy()
    covariance = np.linalg.inv(precision)
    for row in range(3):
        mean = covariance @ linear[row]
        wanted = stats.multivariate_normal(mean, covariance).logpdf(points[row])
        assert found[row] == pytest.approx(wanted, abs=1e-10)


def test_columns_come_back_from_their_residuals(scopes):
    precision, linear = dense(scopes, rows=4)
    plan = plan_of(SIZE, scopes)
    elimination = Elimination(plan)
    each = torch.tensor(precision).expand(4, -1, -1) * torch.arange(1, 5)[:, None, None]
    given = elimination.conditionals(information(plan, each, torch.tensor(linear)))
    points = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(0)).double()
    back = elimination.from_residual(elimination.to_residual(points, given), given)
    torch.testing.assert_close(back, points)


def test_residual_of_a_column_reads_columns_that_are_sampled_before(scopes):
    precision, linear = dense(scopes, rows=1)
    plan = plan_of(SIZE, scopes)
    elimination = Elimination(plan)
    given = elimination.conditionals(
        information(plan, torch.tensor(precision)[None], torch.tensor(linear))
    )
    jacobian = torch.autograd.functional.jacobian(
        lambda v: elimination.to_residual(v[None], given)[0], torch.zeros(SIZE).double()
    )
    assert torch.equal(jacobian, jacobian.tril())
    for column in range(SIZE):
        _, _, clique = plan.clique(column)
        assert {*jacobian[column].nonzero()[:, 0].tolist()} <= {*clique}


def test_gradients_of_the_density_are_those_of_the_closed_form(scopes):
    precision, linear = dense(scopes, rows=2)
    plan = plan_of(SIZE, scopes)
    elimination = Elimination(plan)
    point = torch.randn(2, SIZE, generator=torch.Generator().manual_seed(0)).double()
    h = torch.tensor(linear, requires_grad=True)
    scale = torch.tensor(1.3).double().requires_grad_()

    def by_cliques():
        whole = scale * torch.tensor(precision)[None]
        given = elimination.conditionals(information(plan, whole, h))
        residual = elimination.to_residual(point, given)
        return -0.5 * residual.square().sum() + 2 * elimination.log_roots(given).sum()

    def in_closed_form():
        whole = scale * torch.tensor(precision)
        gap = point - torch.linalg.solve(whole, h.T).T
        return -0.5 * torch.einsum("bi,ij,bj->", gap, whole, gap) + torch.logdet(whole)

    found = torch.autograd.grad(by_cliques(), (h, scale))
    wanted = torch.autograd.grad(in_closed_form(), (h, scale))
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two)


def test_precision_that_is_not_positive_gives_no_number(scopes):
    plan = plan_of(SIZE, scopes)
    elimination = Elimination(plan)
    bad = -torch.eye(SIZE).double()[None]
    given = elimination.conditionals(
        information(plan, bad, torch.zeros(1, SIZE).double())
    )
    assert not elimination.log_roots(given).isfinite().any()


def test_moments_are_those_of_the_inverse(scopes):
    precision, linear = dense(scopes, rows=3)
    plan = plan_of(SIZE, scopes)
    elimination = Elimination(plan)
    given = elimination.conditionals(
        information(plan, torch.tensor(precision)[None], torch.tensor(linear))
    )
    covariances, means = elimination.moments(given)
    wanted = np.linalg.inv(precision)
    entry = column = 0
    for batch in plan.batches:
        for own, parents in zip(batch.own, batch.parents, strict=True):
            clique = [*own, *parents]
            found = covariances[0, entry : entry + batch.width**2].numpy()
            assert found == pytest.approx(wanted[np.ix_(clique, clique)].ravel())
            centre = means[:, column : column + batch.width].numpy()
            assert centre == pytest.approx((linear @ wanted)[:, clique])
            entry, column = entry + batch.width**2, column + batch.width
