"""Tests of daphne_bridge.cli, as a user calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from daphne_bridge.cli import main
from daphne_bridge.inversion.document import load_inverse

PROGRAM = """
(defn double [x] (* 2 x))
(let [a (sample (normal 0 1))
      b (sample (normal (double a) 1))]
  (observe (normal b 1) 0.5)
  [a b])
"""


def call(*arguments, **options):
    return CliRunner().invoke(main, [str(a) for a in arguments], **options)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "p.daphne"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def graph(program, tmp_path):
    path = tmp_path / "graph.json"
    assert call("compile", program, "-o", path).exit_code == 0
    return path


def test_a_program_becomes_a_document_with_its_names(graph):
    document = json.loads(graph.read_text())
    assert set(document[1]["V"]) == {"sample0", "sample1", "observe2"}
    names = json.loads(graph.with_name("graph.names.json").read_text())
    assert names["labels"]["sample1"] == "b"
    assert names["positions"]["observe2"].endswith("p.daphne:5:3")


@pytest.mark.parametrize("layout", ["json", "pretty-json"])
def test_every_json_format_holds_the_same_document(program, graph, tmp_path, layout):
    path = tmp_path / "other.json"
    assert call("compile", program, "-o", path, "--format", layout).exit_code == 0
    assert json.loads(path.read_text()) == json.loads(graph.read_text())


def test_the_other_actions_and_edn_are_written(program, tmp_path):
    path = tmp_path / "out"
    result = call("compile", program, "-o", path, "--action", "desugar",
                  "--format", "json")  # fmt: skip
    assert result.exit_code == 0
    assert json.loads(path.read_text())[0][:2] == ["defn", "double"]
    call("compile", program, "-o", path, "--action", "factor-graph", "--format", "json")
    assert set(json.loads(path.read_text())) == {"X", "F", "A", "psi"}
    call("compile", program, "-o", path, "--action", "desugar-hoppl-cps")
    assert json.loads(path.read_text())[:2] == ["fn", ["alpha", "k-return"]]
    call("compile", program, "-o", path, "--format", "edn")
    assert '"sample*"' in path.read_text() or "sample*" in path.read_text()


def test_data_bind_a_name(tmp_path):
    program, data = tmp_path / "p.daphne", tmp_path / "d.json"
    program.write_text("(foreach (count ys) [y ys] (observe (normal 0 1) y))")
    data.write_text('{"ys": [1.5, 2.5]}')
    path = tmp_path / "g.json"
    assert call("compile", program, "-o", path, "--data", data).exit_code == 0
    assert sorted(json.loads(path.read_text())[1]["Y"].values()) == [1.5, 2.5]


def test_check_reports_counts_and_warnings_as_json(graph):
    said = json.loads(call("check", graph, "--json").stdout)
    assert said["ok"]
    assert (said["latents"], said["observed"], said["arcs"]) == (2, 1, 2)
    assert said["digest"].startswith("sha256:")


def test_a_program_is_checked_shown_and_inverted_as_its_document_is(program, graph):
    for command in (("check",), ("show",), ("invert", "-o", "-")):
        direct = call(*command, program)
        assert direct.exit_code == 0
        said = direct.stdout.replace(str(program), str(graph))
        assert said == call(*command, graph).stdout
    program.write_text("(let [x (sample (nomal 0 1))] x)")
    refused = call("check", program)
    assert refused.exit_code == 2
    assert "perhaps normal" in refused.stderr


def test_check_reports_every_problem_and_exits_with_2(graph):
    document = json.loads(graph.read_text())
    document[1]["P"]["sample0"] = ["sample*", ["normal", 0, -1]]
    document[1]["P"]["sample1"] = ["sample*", ["gamma", "sample0", -2]]
    graph.write_text(json.dumps(document))
    result = call("check", graph)
    assert result.exit_code == 2
    assert "$[1].P.sample0" in result.output
    assert "$[1].P.sample1" in result.output
    said = json.loads(call("check", graph, "--json").stdout)
    assert len(said["problems"]) == 2


def test_no_command_writes_over_what_it_reads(program, graph, tmp_path):
    data = tmp_path / "data.json"
    data.write_text("{}")
    link = tmp_path / "link.daphne"
    link.hardlink_to(program)
    names = tmp_path / "p.names.json"
    names.write_text(PROGRAM)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments in (
        ("compile", program, "-o", tmp_path / "x" / ".." / "p.daphne"),
        ("compile", program, "-o", link),
        ("compile", program, "--data", data, "-o", data),
        ("compile", program, "--action", "desugar", "-o", program),
        ("compile", names, "-o", tmp_path / "p.json"),
        ("invert", graph, "-o", graph),
        ("invert", graph, "-o", tmp_path / "graph.names.json"),
    ):
        (tmp_path / "x").mkdir(exist_ok=True)
        result = call(*arguments)
        assert result.exit_code == 2
        assert "it is an input of the command; expected another place" in result.stderr
        assert {path: path.read_bytes() for path in before} == before


def test_documents_pass_through_standard_input_and_output(
    program, graph, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    compiled = call("compile", "-", "-o", "-", input=program.read_text())
    assert compiled.output == graph.read_text()
    inverse = call("invert", "-", "-o", "-", input=compiled.output)
    call("invert", graph, "-o", tmp_path / "inverse.json")
    assert sorted(json.loads(inverse.output)["latents"]) == ["sample0", "sample1"]
    for text, word in ((compiled.output, "sample0"), (inverse.output, "sample0")):
        shown = call("show", "-", input=text)
        assert shown.exit_code == 0
        assert word in shown.output
    assert call("check", "-", input=compiled.output).exit_code == 0
    assert not (tmp_path / "-").exists()
    for arguments in (("compile", program), ("invert", graph)):
        refused = call(*arguments, "-o", "-", "--json")
        assert refused.exit_code == 2


def test_a_damaged_document_on_standard_input_is_told_as_one():
    """Seen: it was said to be no program."""
    done = call("check", "-", input='[{}, {"V": 3}, 1]')
    assert done.exit_code == 2
    assert "$[1].V: a value of the wrong type" in done.output


def test_the_inverse_is_written_and_shown(graph, tmp_path):
    path = tmp_path / "inverse.json"
    assert call("invert", graph, "-o", path).exit_code == 0
    inverse = load_inverse(path)
    assert set(inverse.latents) == {"sample0", "sample1"}
    assert "b (sample1)" in call("show", path).output
    assert call("show", "--dot", graph).output.startswith("digraph")


def test_bad_programs_leave_no_file(tmp_path):
    program = tmp_path / "p.daphne"
    program.write_text("(let [x (sample (normal 0 1)]\n  x)")
    result = call("compile", program, "-o", tmp_path / "g.json")
    assert result.exit_code == 2
    assert "p.daphne:1:" in result.output
    assert "^" in result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.daphne"]


@pytest.mark.parametrize("name", ["x.json", "X.JSON"])
@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ("[1]", "not a graph document")]
)
def test_show_refuses_what_it_does_not_know(tmp_path, text, said, name):
    path = tmp_path / name
    path.write_text(text)
    result = call("show", path)
    assert result.exit_code == 2
    assert said in result.output


def test_an_original_checkout_can_compile_instead(program, tmp_path, monkeypatch):
    checkout = tmp_path / "daphne"
    checkout.mkdir()
    (checkout / "deps.edn").write_text("{}")
    tools = tmp_path / "bin"
    tools.mkdir()
    document = [{}, {"V": [], "A": {}, "P": {}, "Y": {}}, None]
    script = f"#!/bin/sh\necho '{json.dumps(document)}' > \"$6\"\n"
    (tools / "clj").write_text(script)
    (tools / "clj").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    path = tmp_path / "g.json"
    result = call("compile", program, "-o", path, "--daphne", checkout)
    assert result.exit_code == 0, result.output
    assert json.loads(path.read_text()) == document
    (tools / "clj").unlink()
    result = call("compile", program, "-o", path, "--daphne", checkout)
    assert result.exit_code == 2
    assert "expected clj on the PATH" in result.output


def test_a_failure_is_one_line_and_exit_code_1(graph, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("boom")

    monkeypatch.setattr("daphne_bridge.cli.read_model", broken)
    result = call("check", graph)
    assert result.exit_code == 1
    assert result.output.startswith("failure: RuntimeError: boom")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compile", "p.daphne"), "daphne-bridge compile: missing option '-o'"),
        (("compile", "-o"), "daphne-bridge: option '-o' requires an argument"),
        (("check", "--loud", "x"), "daphne-bridge check: no such option '--loud'"),
        (("fold",), "daphne-bridge: no such command 'fold'"),
        (
            ("comple",),
            "daphne-bridge: no such command 'comple'. Did you mean 'compile'?",
        ),
        (("show", "--dot", "--svg", "x"), "daphne-bridge show: --dot and --svg"),
        (
            ("compile", "p", "-o", "g", "--action", "run"),
            "daphne-bridge compile: invalid value for '--action': 'run' is not one of",
        ),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_sentence(arguments, said):
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(said)
    assert "; expected the usage that daphne-bridge" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", ["show", "check --json", "--help"])
def test_an_output_that_takes_nothing_is_left_without_ado(
    graph, option, unbuffered, monkeypatch
):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    words = option.split() if option.startswith("-") else [*option.split(), graph]
    command = [sys.executable, "-m", "daphne_bridge", *words]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert ran.returncode == 1
    said = b"standard output: cannot be written: No space left on device\n"
    assert ran.stderr == said
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")


def test_the_version_and_the_help_are_no_errors():
    assert call("--version").exit_code == 0
    assert call("compile", "--help").exit_code == 0
    assert call().exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{}",
            "x.json: $: this is not a graph document; expected [functions",
        ),
        (
            '[{}, {"V": 3, "A": {}, "P": {}, "Y": {}}, 1]',
            "x.json: $[1].V: a value of the wrong type; expected the type array; got 3",
        ),
        ('[{},\n {"V": [], "V": []}, 1]', "x.json:2:12: not JSON: the key 'V'"),
        ('[{},\n {"V": [NaN]}, 1]', "x.json:2:9: not JSON: NaN is not"),
    ],
)
def test_a_document_of_the_wrong_shape_is_one_line_per_problem(tmp_path, text, said):
    path = tmp_path / "x.json"
    path.write_text(text)
    result = call("check", path)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('{"y": 1,\n "y": 2}', "d.json:2:2", "the key 'y' stands twice"),
        ('{"y": [1, {"a": 1, "a": 2}]}', "d.json:1:20", "the key 'a' stands twice"),
        ('{"y":\n  Infinity}', "d.json:2:3", "Infinity is not a JSON number"),
    ],
)
def test_data_that_json_leaves_open_are_refused(tmp_path, text, where, what):
    program, data = tmp_path / "p.daphne", tmp_path / "d.json"
    program.write_text("(observe (normal 0 1) y)")
    data.write_text(text)
    result = call("compile", program, "-o", tmp_path / "g.json", "--data", data)
    assert result.exit_code == 2
    assert f"{where}: not JSON: {what}" in result.stderr
    assert not (tmp_path / "g.json").exists()


def test_a_byte_order_mark_is_passed_over(tmp_path):
    program, data = tmp_path / "p.daphne", tmp_path / "d.csv"
    program.write_bytes(b"\xef\xbb\xbf(observe (normal 0 1) (first y))")
    data.write_bytes(b"\xef\xbb\xbfy\n2.5\n")
    graph = tmp_path / "g.json"
    result = call("compile", program, "--data", data, "-o", graph)
    assert result.exit_code == 0, result.output
    assert list(json.loads(graph.read_text())[1]["Y"].values()) == [2.5]
    graph.write_bytes(b"\xef\xbb\xbf" + graph.read_bytes())
    assert call("check", graph).exit_code == 0


def test_control_characters_in_names_are_shown_as_escapes(tmp_path):
    program = tmp_path / "p.daphne"
    program.write_text("(observe (normal a\0 1) 0)")
    said = call("compile", program, "-o", tmp_path / "g.json").stderr
    assert "the name a\\x00 is not defined" in said
    name = "a\0\x1b[31m"
    parts = {"V": [name], "A": {}, "P": {name: ["sample*", ["normal", 0, 1]]}, "Y": {}}
    graph, inverse = tmp_path / "g.json", tmp_path / "i.json"
    graph.write_text(json.dumps([{}, parts, name]))
    call("invert", graph, "-o", inverse)
    for arguments in ((graph,), (graph, "--dot"), (inverse,), (inverse, "--dot")):
        shown = call("show", *arguments).stdout
        assert "a\\x00\\x1b[31m" in shown
        assert all(c.isprintable() for c in shown.replace("\n", ""))
