"""Tests of `daphne-flows infer`: from a file or standard input to a printed answer."""

import json

import pytest
from click.testing import CliRunner

from flows.cli import main

PROGRAM = "(let [k (sample (poisson 3)) y (observe (normal k 1) 5)] {:twice (* 2 k)})"
LONG = "a" * 5_000


def call(*arguments, **options):
    return CliRunner().invoke(main, ["infer", *map(str, arguments)], **options)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "counts.daphne"
    path.write_text(PROGRAM)
    return path


def test_a_program_ends_with_a_table_and_json(program, tmp_path):
    done = call(program, "-o", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "all latents are discrete" in done.output
    assert "-2.231297" in done.output
    stored = json.loads((tmp_path / "run" / "inference.json").read_text())
    assert stored["return"]["twice"]["mean"] == pytest.approx(2 * 4.50395, abs=1e-4)
    assert (tmp_path / "run" / "particles.npz").exists()
    again = call(tmp_path / "run" / "graph.json", "--json")
    plain = json.loads(again.stdout)
    assert {**plain, "seconds": 0} == {**stored, "seconds": 0}


def test_a_folder_with_a_page_is_written_anew_without_it(program, tmp_path):
    folder = tmp_path / "run"
    assert call(program, "-o", folder).exit_code == 0
    assert CliRunner().invoke(main, ["report", str(folder)]).exit_code == 0
    assert call(program, "-o", folder, "--observe", "y=2").exit_code == 0
    assert "report.html" not in {path.name for path in folder.iterdir()}


def test_standard_input_and_other_data_are_taken(program):
    done = call("-", "--json", "--observe", "y=2", input=PROGRAM)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["latents"]["k"]["mean"] < 4


def test_an_answer_that_cannot_be_trusted_has_exit_code_3(tmp_path):
    path = tmp_path / "never.daphne"
    path.write_text("(let [k (sample (flip 0.5))] (observe (flip 0.0) true) k)")
    done = call(path)
    assert done.exit_code == 3
    assert done.stdout.startswith("this answer cannot be trusted")
    assert json.loads(call(path, "--json").stdout)["ok"] is False


@pytest.mark.parametrize("value", ["1e300", "-1e308"])
def test_data_too_large_to_compute_with_are_named(value):
    line = """(let [a (sample (normal 0 1))
                    b (sample (normal a 1))
                    x (observe (normal a 1) 0.5)
                    y (observe (normal b 1) 1.5)] a)"""
    done = call("-", "--observe", f"y={value}", input=line)
    assert done.exit_code == 3
    named = f"no draw of the prior gives a density to y = {float(value):g}: such data"
    assert named in done.stderr
    assert "x = 0.5" not in done.stderr
    headline = " ".join(done.stdout.partition("method")[0].split())
    assert "posterior (all weights are 0, so averages do not exist); none" in headline


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--observe", "z=1"], "no node is called z"),
        (["--observe", "k=1"], "k is a latent"),
        (["--observe", f"{LONG}=1"], f"--observe {LONG[:57]}...: no node is called"),
        (["--observe", LONG], f"--observe {LONG[:57]}...: not an observation; exp"),
        (["--budget", "soon"], "not a duration"),
        (["--method", "flow"], "no trained flow is given"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(program, arguments, sentence):
    done = call(program, *arguments)
    assert done.exit_code == 2
    assert sentence in done.stderr


def test_a_table_of_data_is_used_by_a_program_and_refused_beside_a_document(tmp_path):
    (tmp_path / "d.csv").write_text("x,y\n1,2\n2,3.9\n3,6.1\n")
    path = tmp_path / "p.daphne"
    path.write_text(
        "(let [b (sample (normal 0 10))]"
        " (foreach (count x) [xi x yi y] (observe (normal (* b xi) 0.1) yi)) b)"
    )
    done = call(path, "--data", tmp_path / "d.csv", "-o", tmp_path / "run", "--json")
    assert json.loads(done.stdout)["return"]["mean"] == pytest.approx(2.0, abs=0.05)
    refused = call(tmp_path / "run" / "graph.json", "--data", tmp_path / "d.csv")
    assert refused.exit_code == 2
    assert "stands beside a document" in refused.stderr
