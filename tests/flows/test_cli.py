"""Tests of flows.cli and daphne_bridge.cli, as a user calls them."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from daphne_bridge.cli import main as bridge
from flows.cli import COMMANDS
from flows.cli import main as flows
from flows.commands.json_lines import Server
from flows.commands.model_argument import load_any
from flows.inference.particles import Particles
from flows.model.model import Model
from flows.proposals.flow import FlowProposal
from flows.storage.artifact import Artifact

from .commands.pair import CONFIG
from .conftest import pair_document

PROGRAM = """
; a -> b, one observation each
(let [a (sample (normal 1 2))
      b (sample (normal (* 2 a) 1))
      x (observe (normal a 1) 0.5)
      y (observe (normal b 0.5) 1.5)]
  [a b])
"""


def call(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def good(command, *arguments):
    result = call(command, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def good_json(command, *arguments):
    result = call(command, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def bad(command, *arguments):
    """Return what bad input is told, after the checks that all such errors share."""
    result = call(command, *arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with program, graph, inverse and a quickly trained artifact."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "pair.daphne").write_text(PROGRAM)
    (folder / "train.toml").write_text(CONFIG)
    good(bridge, "compile", folder / "pair.daphne", "-o", folder / "graph.json")
    good(
        flows, "train", folder / "graph.json", "-o", folder / "artifact",
        "--config", folder / "train.toml",
    )  # fmt: skip
    return folder


def test_the_steps_of_a_run_give_the_exact_answer(run):
    good(bridge, "check", run / "graph.json")
    good(bridge, "invert", run / "graph.json", "-o", run / "inverse.json")
    assert "a (sample0)" in good(bridge, "show", run / "graph.json")
    assert "digraph" in good(bridge, "show", "--dot", run / "inverse.json")
    said = good_json(flows, "sample", run / "artifact", run / "graph.json",
            "-o", run / "particles", "--num-particles", 4000)  # fmt: skip
    # By hand: precision matrix of (a, b) and the Gaussian evidence.
    precision = [[1 / 4 + 4 / 1 + 1, -2.0], [-2.0, 1 + 1 / 0.25]]
    shift = [1 / 4 + 0.5, 1.5 / 0.25]
    determinant = precision[0][0] * precision[1][1] - 4.0
    mean_a = (precision[1][1] * shift[0] + 2.0 * shift[1]) / determinant
    mean_b = (2.0 * shift[0] + precision[0][0] * shift[1]) / determinant
    latents = {latent["label"]: latent for latent in said["latents"]}
    for name, mean in (("a", mean_a), ("b", mean_b)):
        error = latents[name]["mean_standard_error"]
        assert abs(latents[name]["mean"] - mean) < 5 * error
    assert said["ess_fraction"] > 0.9
    particles = Particles.load(run / "particles" / "particles.npz")
    assert particles.num_particles == 4000
    summary = json.loads((run / "particles" / "summary.json").read_text())
    assert summary["log_evidence"] == said["log_evidence"]


def test_other_data_are_named_by_either_name(run, tmp_path):
    said = [
        good_json(flows, "sample", run / "artifact", run / "graph.json", "-o",
                tmp_path / name, "--observe", f"{name}=3.5", "--num-particles", 200)
        for name in ("x", "observe2")
    ]  # fmt: skip
    assert said[0]["observed"] == {"x": 3.5, "y": 1.5}
    assert said[0]["log_evidence"] == said[1]["log_evidence"]


def test_one_node_under_two_names_is_observed_once(run, tmp_path):
    sample = ("sample", run / "artifact", run / "graph.json", "-o", tmp_path / "p")
    said = bad(flows, *sample, "--observe", "x=0", "--observe", "observe2=2")
    assert said.endswith(
        "--observe observe2=2: x and observe2 are one node, observed twice; expected"
        " one value for each node\n"
    )
    (tmp_path / "d.csv").write_text("x,observe2\n0,2\n")
    said = bad(flows, *sample, "--observations", tmp_path / "d.csv")
    assert "d.csv line 2 observe2: x and observe2 are one node" in said
    graph = load_any(run / "graph.json").graph
    model = Model.from_graph(graph)
    flow = Artifact.load(run / "artifact").flow_for(graph, model.layout)
    server = Server(FlowProposal(flow, model), 10)
    request = {"observe": {"x": 0, "observe2": 2}, "num_particles": 1, "seed": 0}
    error = json.loads(server.answer(json.dumps(request).encode()))["error"]
    assert error["what"] == "x and observe2 are one node, observed twice"


def test_the_prior_is_a_proposal_too(run, tmp_path):
    said = good_json(flows, "sample", run / "artifact", run / "graph.json", "-o",
            tmp_path / "p", "--proposal", "prior")  # fmt: skip
    assert 0 < said["ess_fraction"] < 0.5


def test_an_artifact_serves_another_document_of_its_model(run, tmp_path):
    other = tmp_path / "other.json"
    document = pair_document(numbers=(9, 4, 7, 2), data=(0.5, 1.5), reverse=True)
    other.write_text(json.dumps(document))
    said = good_json(flows, "sample", run / "artifact", other, "-o", tmp_path / "p")
    assert said["ess_fraction"] > 0.9


def test_evaluation_and_summary_print_their_tables(run):
    good(
        flows, "sample", run / "artifact", run / "graph.json", "-o",
        run / "particles", "--num-particles", 100,
    )  # fmt: skip
    good(
        flows, "evaluate", run / "artifact", run / "graph.json", "-o",
        run / "evaluation.json", "--num-draws", 200, "--num-data-sets", 4,
        "--num-particles", 100,
    )  # fmt: skip
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert abs(evaluation["j"]["symmetric"]["mean"]) < 0.2
    output = good(flows, "summary", run)
    for part in ("log evidence", "J, symmetric KL", "artifact/manifest.json"):
        assert part in output


def test_a_damaged_run_is_said_in_one_sentence(run, tmp_path):
    (tmp_path / "particles").mkdir()
    path = tmp_path / "particles" / "summary.json"
    whole = {
        "model_name": "m", "latents": [], "observed": {}, "log_evidence": 1.0,
        "log_evidence_standard_error": 0.1, "ess_fraction": 1.0, "num_particles": 3,
        "proposal": "flow", "k_hat": None, "cautions": [], "ok": True,
    }  # fmt: skip
    latent = dict.fromkeys(
        ("mean", "mean_standard_error", "sd", "quantile_05", "quantile_95"), 0.5
    )
    for damaged in (
        [], {}, None, 3, "text", whole | {"latents": None},
        whole | {"latents": [latent | {"label": 3, "name": ["x"]}]},
        whole | {"observed": [1, 2]}, whole | {"cautions": [{}]},
        whole | {"latents": [latent | {"label": "a", "name": "a", "sd": 10**400}]},
    ):  # fmt: skip
        path.write_text(json.dumps(damaged))
        assert f"{path}: damaged" in bad(flows, "summary", tmp_path)
    path.write_text("[" * 100_000)
    assert f"{path}: damaged" in bad(flows, "summary", tmp_path)
    path.write_text(json.dumps(whole))
    (tmp_path / "evaluation.json").write_text("{}")
    said = f"{tmp_path / 'evaluation.json'}: damaged; expected what the command wrote"
    assert bad(flows, "summary", tmp_path) == f"{said}\n"


BAD_PROGRAM = "(let [a (sample (normal 0 1))] a)"
DISCRETE = "(let [k (sample (flip 0.5))] (observe (normal (if k 1 2) 1) 0.5) k)"


def test_bad_input_ends_in_one_line_exit_code_2_and_no_file(run, tmp_path):
    out = tmp_path / "out"
    graph, artifact = run / "graph.json", run / "artifact"
    cyclic = tmp_path / "cyclic.json"
    links = {
        "sample1": ["sample*", ["normal", "sample2", 1]],
        "sample2": ["sample*", ["normal", "sample1", 1]],
    }
    parts = {"V": list(links), "A": {}, "P": links, "Y": {}}
    cyclic.write_text(json.dumps([{}, parts, None]))
    unknown = tmp_path / "unknown.json"
    links = {"sample1": ["sample*", ["couchy", 0, 1]]}
    parts = {"V": list(links), "A": {}, "P": links, "Y": {}}
    unknown.write_text(json.dumps([{}, parts, None]))
    not_json = tmp_path / "not.json"
    not_json.write_text("{oops")
    shape = tmp_path / "shape.json"
    shape.write_text('{"a": 1}')
    other = tmp_path / "other.json"
    other.write_text(json.dumps(pair_document(scale=4)))
    for name, text in (("bad", BAD_PROGRAM), ("discrete", DISCRETE)):
        (tmp_path / f"{name}.daphne").write_text(text)
        good(
            bridge, "compile", tmp_path / f"{name}.daphne", "-o",
            tmp_path / f"{name}.json",
        )  # fmt: skip
    before = sorted(tmp_path.iterdir())
    sample = ("sample", artifact, graph, "-o", out)
    for arguments, said in (
        (("train", tmp_path / "none.json", "-o", out), "no such file"),
        (("train", tmp_path, "-o", out), "this is a directory"),
        (("train", not_json, "-o", out), "not JSON"),
        (("train", shape, "-o", out), "not a graph document"),
        (("train", unknown, "-o", out), "unknown name couchy"),
        (("train", cyclic, "-o", out), "form a cycle"),
        (("train", tmp_path / "bad.json", "-o", out), "observes nothing"),
        (("train", tmp_path / "discrete.json", "-o", out), "no continuous latent"),
        (("train", graph, "-o", out, "--budget", "soon"), "not a duration"),
        (("train", graph, "-o", out, "--config", tmp_path / "no.toml"), "no such file"),
        (("train", graph, "-o", out, "--config", graph), "not TOML"),
        ((*sample, "--observe", "w=1"), "no node is called w"),
        ((*sample, "--observe", "a=1"), "a is a latent"),
        ((*sample, "--observe", "x=nan"), "not finite"),
        ((*sample, "--observe", "x=inf"), "not finite"),
        ((*sample, "--observe", "x=1e999"), "not finite"),
        ((*sample, "--observe", "x=text"), "number"),
        ((*sample, "--observe", "x"), "NAME=VALUE"),
        (("sample", artifact, other, "-o", out), "another model"),
        (("sample", graph, graph, "-o", out), "this is a file"),
        (("evaluate", tmp_path / "none", graph, "-o", out), "no such folder"),
        (("summary", tmp_path), "no such file"),
    ):
        output = bad(flows, *arguments)
        assert said in output, (arguments, output)
        problems = [line for line in output.splitlines() if line]
        assert all(": " in line for line in problems)
        assert sorted(tmp_path.iterdir()) == before, arguments


def test_problems_are_json_when_json_is_asked_for(run, tmp_path):
    result = CliRunner().invoke(
        flows,
        [
            "sample", str(run / "artifact"), str(run / "graph.json"), "-o",
            str(tmp_path / "p"), "--observe", "x=nan", "--json",
        ],
    )  # fmt: skip
    assert result.exit_code == 2
    problem = json.loads(result.stdout)["problems"][0]
    assert problem["what"] == "the observation is not finite"


def test_unknown_settings_are_refused_with_their_place(run, tmp_path):
    (tmp_path / "c.toml").write_text("lerning_rate = 1\n[flow]\nlayers = 'x'\n")
    output = bad(
        flows, "train", run / "graph.json", "-o", tmp_path / "a", "--config",
        tmp_path / "c.toml",
    )  # fmt: skip
    assert "lerning_rate" in output
    assert "layers" in output


def start_training(folder, graph, *extra):
    return subprocess.Popen(
        [
            sys.executable, "-m", "flows", "train", str(graph), "-o",
            str(folder / "artifact"), "--config", str(folder / "long.toml"), *extra,
        ],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A test run in the background inherits interrupts that are ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


LONG = CONFIG.replace("max_iterations = 60", "max_iterations = 400")


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A training that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "long.toml").write_text(LONG)
    assert start_training(folder, run / "graph.json").wait(timeout=120) == 0
    return folder


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_training_is_continued_to_the_same_flow(
    run, whole, tmp_path, kind
):
    (tmp_path / "long.toml").write_text(LONG)
    graph = run / "graph.json"
    log = tmp_path / "artifact.training" / "log.jsonl"
    process = start_training(tmp_path, graph)
    wait_for(log)
    end = time.monotonic() + 60
    while len(log.read_text().splitlines()) < 6 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(kind)
    code = process.wait(timeout=60)
    assert code == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    assert not (tmp_path / "artifact").exists()
    resumed = start_training(tmp_path, graph, "--resume")
    assert resumed.wait(timeout=120) == 0
    # The log goes on without a gap or a repetition.
    iterations = [
        json.loads(line)["iteration"] for line in log.read_text().splitlines()
    ]
    assert iterations == sorted(iterations)
    assert iterations[-1] == 400
    weights = "artifact/weights.safetensors"
    assert (tmp_path / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_checkpoint_of_another_run_is_refused(run, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(CONFIG)
    graph = run / "graph.json"
    train = ("train", graph, "-o", tmp_path / "a", "--config", config)
    good(flows, *train)
    assert "another seed" in bad(flows, *train, "--resume", "--seed", 5)
    config.write_text(CONFIG + "residual = true\n")
    said = bad(flows, *train, "--resume")
    assert "another configuration" in said
    assert "go on with --config and the config.toml beside it" in said
    kept = tmp_path / "a.training" / "config.toml"
    good(flows, *train[:-1], kept, "--resume")
    config.write_text(CONFIG)
    path = tmp_path / "a.training" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert "the checkpoint is damaged" in bad(flows, *train, "--resume")


@pytest.mark.parametrize("command", [bridge, flows])
def test_commands_explain_themselves(command):
    assert "Exit codes" in good(command, "--help")
    assert "version" in good(command, "--version")
    for name in command.commands:
        assert "Usage" in good(command, name, "--help")


@pytest.mark.parametrize("command", ["infer", "learn", "refine", "train"])
def test_help_says_by_which_clock_a_budget_is_counted(command):
    said = " ".join(good(flows, command, "--help").split())
    assert "by the wall clock" in said.partition("--budget")[2][:80]


def test_the_help_of_all_commands_is_what_each_says_of_itself():
    context = click.Context(flows)
    assert flows.list_commands(context) == list(COMMANDS)
    for name, short in COMMANDS.items():
        command = flows.get_command(context, name)
        assert command.name == name
        assert command.get_short_help_str(limit=1000) == short


def test_help_comes_before_the_libraries_are_loaded():
    code = (
        "import sys; from click.testing import CliRunner; from flows.cli import main;"
        "result = CliRunner().invoke(main, ['--help']);"
        "assert 'evaluate' in result.output, result.output;"
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", sorted(bridge.commands))
def test_a_command_of_the_other_program_is_found_there(command):
    result = CliRunner().invoke(flows, [command, "model.daphne"])
    assert result.exit_code == 2
    assert f"no such command '{command}'. daphne-bridge has it" in result.stderr
