"""Tests of flows.experiments.claims."""

from flows.experiments.claims import claims_table


def test_only_figures_that_were_made_have_rows():
    assert claims_table({}).splitlines() == [
        "| claim | paper | here |",
        "|---|---|---|",
    ]


def test_numbers_stand_beside_the_paper():
    table = claims_table(
        {
            "fig9": {
                "mean_squared_error_over_variance": 1.0123,
                "its_standard_error": 0.021,
                "iterations": 7,
            },
            "fig6": {
                "iterations": [0, 50],
                "objectives": {
                    "forward": {"j": [{"median": 9.0}, {"median": 4.25}]},
                    "reverse": {"j": [{"median": 8.5}]},
                },
            },
        }
    )
    assert "1 for the exact posterior | 1.012 ± 0.021 after 7 iterations |" in table
    assert "after 50 iterations" in table
    assert "forward 4.25, reverse 8.5 (after 0)" in table


def test_the_fast_version_says_so():
    fig6 = {"iterations": [1], "objectives": {}, "length": "fast"}
    assert claims_table({"fig6": fig6}).startswith("Fast version")
    assert "Fast" not in claims_table({"fig6": {**fig6, "length": "usual"}})


def test_natural_steps_stand_beside_plain_ones():
    found = {
        "plain": [{"iteration": 2000, "seconds": 7.5, "bound": -3.25}],
        "plain_reaches": -3.25,
        "natural_reaches": {"iteration": 4, "seconds": 0.2, "bound": -3.125},
    }
    table = claims_table({"fig_sin": {"programs": {"mixture": found}}})
    assert "mixture: bound of 2000 plain gradient steps" in table
    assert "plain -3.2500 in 7.5 s; natural -3.1250 after 4 steps, 0.2 s |" in table


def test_bounds_of_digits_stand_beside_the_evidence():
    gap = {"particles": 1, "mean": 0.25, "standard_error": 0.01}
    posteriors = {"planar, 4": {"gaps": [gap, {**gap, "particles": 10}]}}
    numbers = {"posteriors": posteriors, "log_evidence": -21.5}
    table = claims_table({"fig_digits": numbers})
    assert "| planar, 4 0.250 ± 0.010; log p(x) -21.50 |" in table
