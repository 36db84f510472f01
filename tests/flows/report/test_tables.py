"""Tests of flows.tables."""

import io

from rich.console import Console

from flows.report.tables import cells, posterior_table

EVIL = "z\x1b[31m\x07[red]\n$"
SHOWN = "z\\x1b[31m\\x07[red]\\n$"


def printed(renderable):
    stream = io.StringIO()
    console = Console(file=stream, width=200, force_terminal=True, color_system=None)
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
