"""Tests of flows.report.tables."""

import io

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from flows.report.tables import cells, diagnosis_table, posterior_table

EVIL = "z\x1b[31m\x07[red]\n$"
SHOWN = "z\\x1b[31m\\x07[red]\\n$"


def printed(renderable, width=200):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    console.print(renderable, highlight=False)
    return stream.getvalue()


def test_a_cell_shows_its_text_without_markup_or_control_characters():
    (cell,) = cells(EVIL)
    assert cell.plain == SHOWN


def test_a_table_passes_no_label_on_to_the_terminal():
    keys = ("mean", "mean_standard_error", "sd", "quantile_05", "quantile_95")
    figures = dict.fromkeys(keys, 1.0)
    summary = {
        "ok": True,
        "model_name": EVIL,
        "latents": [{"label": EVIL, "name": EVIL, **figures}],
        "observed": {EVIL: 1.0},
        "log_evidence": 1.0,
        "log_evidence_standard_error": None,
        "ess_fraction": 1.0,
        "num_particles": 10,
        "proposal": EVIL,
        "k_hat": None,
        "cautions": [{"what": EVIL, "meaning": EVIL, "remedy": EVIL}],
    }
    text = printed(posterior_table(summary))
    assert "\x1b[31m" not in text
    assert "\x07" not in text
    assert text.count(SHOWN) == 8


def diagnosis_of(num_data_sets, numbers=()):
    latent = {"name": "m", "ks": 0.1, "is_calibrated": None}
    return {
        "config": {"num_data_sets": num_data_sets, "num_particles": 100},
        "ess_fractions": [0.5, 0.9],
        "k_hats": [None, 0.1],
        "latents": [latent | {"is_weighted_calibrated": None}],
        "nodes": [{"name": "m", "variance": 0.1, "median_variance": 0.1}],
        "log_weight_variance": 0.1,
        "median_log_weight_variance": 0.1,
        "predictive": {"numbers": numbers, "num_draws": 10},
    }


def test_new_data_without_an_order_stand_in_no_row_of_a_diagnosis():
    """The table of such data ended in an error: they lie on no side of the data."""
    figures = {"mean": None, "sd": None, "quantile_05": None, "quantile_95": None}
    numbers = (
        {"name": "colour", "observed": 1.0, "level": None, **figures},
        {"name": "size", "observed": 2.0, "level": 0.25, **figures},
    )
    text = printed(diagnosis_table(diagnosis_of(2, numbers)))
    assert "colour" not in text
    assert "new data below size = 2" in text


def test_a_statistic_of_few_data_sets_stands_beside_what_chance_gives():
    rows = np.random.default_rng(0).normal(size=(2000, 2, 30))
    found = np.quantile([stats.ks_2samp(a, b).statistic for a, b in rows], 0.99)
    said = printed(diagnosis_table(diagnosis_of(30))).split("by chance up to ")[1]
    assert float(said[:4]) == pytest.approx(found, abs=0.03)
