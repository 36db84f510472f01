"""Student's t of proposals, against scipy and its moments."""

import torch
from scipy.stats import multivariate_t

from flows.inference.heavy_tails import heavy_log_density, heavy_spread


def test_the_density_is_that_of_a_student_t_with_five_degrees_of_freedom() -> None:
    factor = torch.tensor([[2.0, 0.0], [0.5, 0.3]], dtype=torch.float64)
    z = torch.tensor([[0.0, 0.0], [1.0, -2.0], [30.0, 4.0]], dtype=torch.float64)
    log_det = factor.diagonal().log().sum()
    found = heavy_log_density(z.square().sum(1), 2, log_det)
    law = multivariate_t(shape=(factor @ factor.T).numpy(), df=5.0)
    expected = torch.as_tensor(law.logpdf((z @ factor.T).numpy()))
    torch.testing.assert_close(found, expected)


def test_draws_over_the_root_of_precisions_have_the_variance_of_the_student_t() -> None:
    generator = torch.Generator().manual_seed(3)
    spread = heavy_spread(200_000, generator=generator)
    assert abs(float(spread.reciprocal().mean()) - 5.0 / 3.0) < 0.03
