"""Tests of flows.commands.train: a J below 0 is no praise."""

import json

from click.testing import CliRunner

from flows.cli import main
from flows.report.words import j_in_words

TEXT = "(let [p (sample (dirichlet [0.1 0.1 0.1]))] (observe (discrete p) 0) p)"
QUICK = "budget_seconds = 0\nmax_iterations = 100\ncertify_draws = 2000\n"


def test_words_do_not_praise_what_cannot_be():
    assert "cannot be below 0" in j_in_words(-7.2)
    assert "cannot be below 0" in j_in_words(-7.2, 0.9)
    assert "close to the posterior" in j_in_words(-0.001)


def test_training_for_mass_where_doubles_end_is_not_trusted(tmp_path):
    (tmp_path / "d.daphne").write_text(TEXT)
    (tmp_path / "quick.toml").write_text(QUICK)
    words = ["train", tmp_path / "d.daphne", "--config", tmp_path / "quick.toml"]
    words += ["-o", tmp_path / "d"]
    call = CliRunner().invoke(main, [*map(str, words)])
    assert call.exit_code == 3, call.output
    assert "cannot be below 0" in call.output
    assert "close to the posterior" not in call.output
    call = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert call.exit_code == 3
    assert not json.loads(call.stdout)["ok"]
