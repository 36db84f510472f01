"""Tests of flows.report.particle_plots."""

import numpy as np
import pytest

from flows.report.particle_plots import (
    pairs_plot,
    path_plot,
    predictive_plot,
    widest_pairs,
)

pytest.importorskip("matplotlib")


def correlated():
    """Six columns: the last two go together, the first and the third nearly."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(6, 4000))
    base[5] = -base[4]
    base[2] = base[0] + 0.5 * base[2]
    return list(base), np.full(4000, 1 / 4000)


def test_the_most_correlated_columns_are_taken_pair_by_pair():
    columns, weights = correlated()
    assert widest_pairs(columns, weights, 3) == [4, 5]
    assert widest_pairs(columns, weights, 4) == [0, 2, 4, 5]


def test_a_column_that_never_varies_is_in_no_pair():
    columns, weights = correlated()
    columns[1] = np.ones(4000)
    assert widest_pairs(columns, weights, 5) == [0, 2, 3, 4, 5]
    assert widest_pairs([np.ones(5)], np.full(5, 0.2), 5) == []
    assert "<svg" in pairs_plot(["one"], [np.ones(5)], np.full(5, 0.2))


def test_correlations_are_weighted():
    """Two halves of the draws, of opposite correlation; the weights choose one."""
    x = np.random.default_rng(1).normal(size=2000)
    y = np.where(np.arange(2000) < 1000, x, -x)
    for half, r in ((slice(0, 1000), "1.00"), (slice(1000, 2000), "-1.00")):
        weights = np.zeros(2000)
        weights[half] = 1 / 1000
        assert f"r = {r}<" in pairs_plot(["x", "y"], [x, y], weights).replace(
            "\u2212", "-"
        )


def test_a_path_shows_steps_without_moves_as_gaps():
    step = {"temperature": 0.5, "ess": 10.0, "acceptance": None}
    assert "acceptance" in path_plot([{"path": [step]}, {"path": [step, step]}])


def test_new_discrete_values_are_bars_by_name_and_others_a_histogram():
    numbers = [
        {
            "name": "colour",
            "observed": 1.0,
            "value": ":blue",
            "probabilities": {":red": 0.25, ":blue": 0.75},
        },
        {"name": "x", "observed": 0.5, "edges": [0.0, 1.0], "counts": [3]},
    ]
    shown = predictive_plot({"numbers": numbers})
    assert ":red<" in shown
    assert ":blue<" in shown
