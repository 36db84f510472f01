"""Tests of flows.inference.averages."""

import math

import pytest
import torch

from flows.inference.averages import Averages


def test_a_weight_too_small_for_a_double_makes_no_average_infinite():
    """A draw of a wide prior: its square is infinite, its weight rounds to 0."""
    values = torch.tensor([[1.0], [3.0], [1e200]]).double()
    part = Averages(values, torch.tensor([0.0, 0.0, -1e4]).double())
    assert part.mean().item() == 2.0
    assert part.sd().item() == 1.0
    assert part.mean_standard_error().item() == pytest.approx(math.sqrt(0.5))
