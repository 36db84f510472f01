"""Tests of flows.front.figures."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flows.front.figures import exact_figures, figures_of

CATEGORIES = {"none": (), "numbers": (3, -1, 2.5, 7), "words": ("a", "b", 1, "c")}


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=1, max_size=8),
    st.sampled_from(list(CATEGORIES)),
    st.data(),
)
def test_known_probabilities_give_the_figures_of_weighted_values(values, of, data):
    weights = st.integers(0, 5)
    counts = data.draw(st.lists(weights, min_size=len(values), max_size=len(values)))
    if not any(counts):
        counts[0] = 1
    chances = torch.tensor(counts).double() / sum(counts)
    categories = CATEGORIES[of]
    kind = "category" if categories else "integer"
    found = exact_figures(values, chances.tolist(), kind=kind, categories=categories)
    expected = figures_of(
        torch.tensor(values).double(),
        chances.log(),
        mc_error=0.0,
        kind=kind,
        categories=categories,
    )
    if not categories:  # the same by averages of rows
        rows = torch.tensor(values).double()
        drawn = figures_of(rows, chances.log(), kind=kind)
        averages = figures_of(rows, chances.log())
        for name in ("mean", "mc_error", "sd"):
            one, other = getattr(drawn, name), getattr(averages, name)
            assert one == pytest.approx(other, abs=1e-12, nan_ok=True)
        assert found.mean == pytest.approx(averages.mean, abs=1e-12, nan_ok=True)
        assert found.sd == pytest.approx(averages.sd, abs=1e-12, nan_ok=True)
    for name in ("mean", "mc_error", "sd"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one == pytest.approx(other, abs=1e-12, nan_ok=True)
    # At a level that a sum of probabilities meets, rounding decides.
    levels = torch.tensor([0.05, 0.5, 0.95]).double()
    sums = torch.stack([chances[[v <= x for v in values]].sum() for x in values])
    if bool(((sums.unsqueeze(1) - levels).abs() > 1e-9).all()) and not categories:
        for name in ("q05", "median", "q95"):
            one, other = getattr(found, name), getattr(expected, name)
            assert one == pytest.approx(other, nan_ok=True)
    assert found.probabilities == pytest.approx(expected.probabilities)
