"""Tests of flows.model.standard_normal: torch's own distribution is the oracle."""

import torch
from torch.distributions import Normal

from flows.model.standard_normal import standard_normal_log_prob, standard_normal_terms


def test_terms_and_their_sum_are_those_of_torch():
    values = torch.tensor([[0.0, -1.5], [30.0, 2.0], [1e-9, 0.3]], dtype=torch.float64)
    wanted = Normal(0.0, 1.0).log_prob(values)
    torch.testing.assert_close(standard_normal_terms(values), wanted)
    torch.testing.assert_close(standard_normal_log_prob(values), wanted.sum(-1))


def test_rows_without_columns_have_density_one():
    assert standard_normal_log_prob(torch.empty(3, 0)).tolist() == [0.0] * 3
