"""Tests of flows.commands.learn."""

import json

import pytest

from .pair import bad, doubted, good

PROGRAM = """
(let [m (sample (normal 0 9))
      s (sample (gamma 3 3))
      x (observe (normal m s) 0)
      y (observe (normal m s) 0)]
  m)
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.daphne").write_text(PROGRAM)
    (tmp_path / "rows.csv").write_text("x,y\n1.0,2.0\n0.5,1.5\n2.5,1.0\n")
    return tmp_path


def learn(folder, *options, caller=good, names="m,s"):
    return caller(
        "learn", folder / "program.daphne", "--data", folder / "rows.csv",
        "--parameters", names, "-o", folder / "learned", *options,
    )  # fmt: skip


def test_a_document_is_learned_that_infer_takes(program):
    said = json.loads(learn(program, "--json"))
    assert said["ok"]
    assert said == json.loads((program / "learned" / "learning.json").read_text())
    # Six numbers of mean 8.5 / 6 pull m a little from there to the prior.
    assert said["parameters"]["m"]["value"] == pytest.approx(8.5 / 6, abs=0.01)
    answer = json.loads(good("infer", program / "learned" / "learned.json", "--json"))
    assert answer["latents"] == {}


def test_the_table_names_the_parameters(program):
    said = learn(program, "--posterior")
    assert "observed information" in said
    assert "3 rows" in said
    assert (program / "learned" / "particles.npz").exists()


def test_no_time_is_exit_code_3(program):
    options = ("--posterior", "--budget", "0.001s")
    assert "cannot be trusted" in learn(program, *options, caller=doubted)


@pytest.mark.parametrize(
    ("rows", "names", "said"),
    [
        ("x,y\n1,2\n", "k", "no latent has this name"),
        ("x,z\n1,2\n", "m,s", "no node is called z"),
        ("x,y\n1\n", "m,s", "rows.csv line 2: wrong number of values"),
        ("x,y\n1,red\n", "m,s", "not a number"),
        ("x,y\n", "m,s", "there is no data set"),
        ("x,y\n1,2\n", ",", "nothing to learn"),
    ],
)
def test_bad_input_is_said_in_one_sentence(program, rows, names, said):
    (program / "rows.csv").write_text(rows)
    assert said in learn(program, caller=bad, names=names)
    assert not (program / "learned").exists()
