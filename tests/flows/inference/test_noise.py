"""Tests of flows.inference.noise."""

import pytest
import scipy
import torch

from flows.inference.noise import standard_normal, uniform


@pytest.mark.parametrize(
    ("draw", "law"), [(uniform, "uniform"), (standard_normal, "norm")]
)
def test_draws_have_their_law_in_double_precision(draw, law):
    found = draw(40, 50, generator=torch.Generator().manual_seed(0))
    assert found.shape == (40, 50)
    assert found.dtype == torch.float64
    assert scipy.stats.kstest(found.flatten().numpy(), law).pvalue > 1e-3
