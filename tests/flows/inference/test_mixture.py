"""Tests of mixtures of Student's t."""

import numpy as np
import pytest
import torch
from scipy import stats

from flows.inference.mixture import Mixture, MixtureProposal, factor_of
from flows.model.model import Model

MIXTURE = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64).log(),
    torch.tensor([[-4.0, 0.0], [4.0, 1.0]], dtype=torch.float64),
    torch.tensor([[[1.0, 0.0], [0.5, 2.0]], [[0.5, 0.0], [0.0, 0.5]]]).double(),
)


def test_the_density_is_that_of_the_students_t_it_is_made_of():
    rows = np.random.default_rng(0).normal(size=(50, 2)) * 4
    expected = sum(
        share * stats.multivariate_t(place, factor @ factor.T, df=5).pdf(rows)
        for share, place, factor in zip(
            (0.3, 0.7), MIXTURE.locations.numpy(), MIXTURE.factors.numpy(), strict=True
        )
    )
    found = MIXTURE.log_prob(torch.from_numpy(rows)).exp().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_draws_have_the_shares_and_places_of_the_components():
    rows = MIXTURE.sample(20_000, generator=torch.Generator().manual_seed(0))
    right = rows[:, 0] > 0
    assert float(right.double().mean()) == pytest.approx(0.7, abs=0.02)
    assert rows[right].mean(0).tolist() == pytest.approx([4.0, 1.0], abs=0.05)


def test_a_refitted_mixture_moves_to_its_weighted_draws():
    """The target is N((1, -1), 0.5² I), within reach of the second component."""
    wide = Mixture(
        torch.zeros(1, dtype=torch.float64),
        torch.zeros(1, 2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64)[None] * 1.5,
    )
    rows = wide.sample(20_000, generator=torch.Generator().manual_seed(0))
    gap = rows - torch.tensor([1.0, -1.0])
    log_weights = -2.0 * gap.square().sum(1) - wide.log_prob(rows)
    moved = wide.refitted(rows, log_weights)
    assert moved.locations[0].tolist() == pytest.approx([1.0, -1.0], abs=0.03)
    scale = (moved.factors[0] @ moved.factors[0].T).numpy()
    np.testing.assert_allclose(scale, 0.25 * np.eye(2), atol=0.02)


@pytest.mark.parametrize("num", [1, 3])
def test_rows_without_meaning_have_no_density_even_where_all_are(num):
    """Seen: the prior's part of a batch, no row of it with a meaning, ended `infer`."""
    model = Model.from_program("(let [x (sample (normal 0 1))] x)")
    proposal = MixtureProposal(model, Mixture.around(torch.randn(9, 1).double()))
    rows = torch.full((num, 1), torch.nan, dtype=torch.float64)
    found = proposal.log_prob(rows, rows[:, :0], rows.new_zeros(0))
    assert found.tolist() == [-torch.inf] * num


def test_a_factor_is_right_to_the_scale_of_each_coordinate():
    """Intercepts of 1e6 beside scales of 1e-4: what is added must not be seen."""
    correlation = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.3], [0.0, 0.3, 1.0]])
    scale = np.array([1e6, 1.0, 1e-4])
    covariance = correlation * np.outer(scale, scale)
    factor = factor_of(torch.from_numpy(covariance)).numpy()
    np.testing.assert_allclose(
        factor @ factor.T / np.outer(scale, scale), correlation, atol=1e-9
    )


def test_what_is_not_finite_has_no_factor():
    """It was looked for without end."""
    covariance = torch.tensor([[1.0, 0.0], [0.0, torch.inf]], dtype=torch.float64)
    assert factor_of(covariance).isnan().all()


def test_rows_too_far_for_numbers_do_not_move_a_mixture():
    """Of a prior without a scale some draws lie at 1e200: squares are infinite."""
    rows = MIXTURE.sample(500, generator=torch.Generator().manual_seed(0))
    weights = torch.zeros(501, dtype=torch.float64)
    with_far = torch.cat([rows, torch.full((1, 2), 1e200, dtype=torch.float64)])
    moved, alone = (
        MIXTURE.refitted(with_far, weights),
        MIXTURE.refitted(rows, weights[1:]),
    )
    torch.testing.assert_close(moved.locations, alone.locations)
    torch.testing.assert_close(moved.factors, alone.factors)
    none = MIXTURE.refitted(with_far[-1:], weights[-1:])
    assert torch.equal(none.locations, MIXTURE.locations)
