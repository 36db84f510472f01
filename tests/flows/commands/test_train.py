"""Tests of flows.commands.train."""

import json
import math
import re
import tomllib

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from daphne_bridge.compiler import compile_program
from daphne_bridge.graph.document import load_document
from daphne_bridge.graph.graph import Graph
from flows.cli import main
from flows.model.model import Model
from flows.storage.artifact import Artifact
from flows.storage.folders import own_folder

from ..conftest import pair_document
from .pair import CONFIG, bad, doubted, good


@pytest.fixture
def folder(tmp_path):
    """A folder with a graph and a quick configuration."""
    (tmp_path / "graph.json").write_text(json.dumps(pair_document()))
    (tmp_path / "train.toml").write_text(CONFIG)
    return tmp_path


def train(folder, *options, caller=good):
    return caller(
        "train", folder / "graph.json", "-o", folder / "artifact",
        "--config", folder / "train.toml", *options,
    )  # fmt: skip


def ended_well(*arguments):
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def log_of(folder):
    text = (folder / "artifact.training" / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_flow_that_no_step_has_trained_is_not_trusted(tmp_path, seed):
    # Precisions without a scale: data of the model go up to 1e150.
    (tmp_path / "far.daphne").write_text(
        """(let [mu (sample (normal 0 30))
                 l (foreach 3 [] (sample (gamma 0.01 0.01)))]
             (foreach 3 [x [3.1 8.2 9.9] li l]
               (observe (normal mu (/ 1 (sqrt li))) x))
             mu)"""
    )
    asked = ("train", tmp_path / "far.daphne", "-o", tmp_path / "artifact",
             "--budget", "10s", "--seed", seed)  # fmt: skip
    assert "no step of training had a finite loss" in doubted(*asked)
    assert Artifact.load(tmp_path / "artifact").manifest.training.metrics["rollbacks"]


@pytest.mark.parametrize("engine", ["torch", "adaptive", "paper"])
def test_every_engine_trains_to_an_artifact(folder, engine):
    if engine != "torch":
        few = CONFIG.replace("max_iterations = 60", "max_iterations = 8")
        (folder / "train.toml").write_text(few.replace("_every = 20", "_every = 4"))
    said = json.loads(train(folder, "--engine", engine, "--json"))
    assert abs(said["metrics"]["best_j"]) < 0.1
    sizes = [report["ess"] for report in log_of(folder) if report["certified"]]
    assert len(sizes) > 1
    if engine == "paper":  # noisy densities say nothing about weights
        assert sizes == [None] * len(sizes)
    else:
        assert min(sizes) > 0.8


def test_kind_of_flow_is_chosen_on_the_command_line(folder):
    said = json.loads(train(folder, "--kind", "auto", "--json"))
    assert abs(said["metrics"]["best_j"]) < 0.1
    assert "solver_steps" not in said["metrics"]
    artifact = Artifact.load(folder / "artifact")
    assert artifact.manifest.flow.kind == "autoregressive"
    assert "one of" in train(folder, "--kind", "steam", caller=bad)


def test_a_bare_resume_goes_on_as_the_run_was_begun(folder):
    """Its figures are those of the run, though nothing is left to do."""
    first = json.loads(train(folder, "--seed", "0", "--json"))
    where = ("train", folder / "graph.json", "-o", folder / "artifact")
    again = json.loads(good(*where, "--resume", "--json"))
    seconds = again["metrics"].pop("seconds"), first["metrics"].pop("seconds")
    assert again == first
    assert first["metrics"]["ess"] > 0.8
    assert all(each > 0.0 for each in seconds)
    said = bad(*where, "--resume", "--budget", "9s")
    assert "expected budget_seconds" in said


def test_a_run_of_another_kind_is_not_gone_on_with(folder):
    asked = ("train", folder / "graph.json", "-o", folder / "artifact")
    train(folder, "--kind", "auto")
    run = folder / "artifact.training"
    for kind in ("cnf", "finite"):
        assert bad(*asked, "--resume", "--kind", kind).endswith(
            f"{run}: the run in it is of another kind of flow; "
            "expected autoregressive, which --resume alone goes on with; without it "
            f"training starts anew; got {kind}\n"
        )
    assert bad(*asked, "--resume", "--one-data-set").endswith(
        f"{run}: the run in it is of other data sets; expected a flow of all data "
        "sets, which --resume alone goes on with; without it training starts anew; got "
        "a flow of one data set\n"
    )
    good(*asked, "--resume", "--kind", "autoregressive")
    good(*asked, "--resume", "--kind", "auto")


def test_the_kind_is_named_and_so_is_a_flow_that_will_be_replaced(folder):
    said = json.loads(train(folder, "--json"))
    assert said["metrics"]["kind"] == "cnf"
    again = CliRunner().invoke(
        main,
        ["train", str(folder / "graph.json"), "-o", str(folder / "artifact"),
         "--config", str(folder / "train.toml")],
    )  # fmt: skip
    assert f"{folder / 'artifact'}: the flow in it will be replaced" in again.stderr
    assert f"{folder / 'artifact'}: cnf, J about " in again.stdout


def test_an_interrupted_run_that_will_be_replaced_is_said(folder, monkeypatch):
    asked = [
        "train", str(folder / "graph.json"), "-o", str(folder / "artifact"),
        "--config", str(folder / "train.toml"),
    ]  # fmt: skip
    said = "artifact.training: the interrupted run in it will be replaced; --resume"

    def interrupted(_report):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flows.commands.train._progress_of", lambda _: interrupted)
        first = CliRunner().invoke(main, asked)
        again = CliRunner().invoke(main, asked)
    assert (first.exit_code, again.exit_code) == (130, 130)
    assert said not in first.stderr
    assert again.stderr.count(said) == 1
    assert "will be replaced" not in ended_well(*asked, "--resume")
    done = ended_well(*asked)
    assert said not in done
    assert "the flow in it will be replaced" in done


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:-1] + b"\x7f"])
def test_a_damaged_run_that_will_be_replaced_is_said(folder, damage):
    train(folder)
    path = folder / "artifact.training" / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    said = "artifact.training: the run in it, which is damaged, will be replaced\n"
    assert said in train(folder, caller=ended_well)
    assert said not in train(folder, caller=ended_well)


def test_draws_beyond_the_bounds_that_data_tell_are_said_and_weigh_nothing(folder):
    """The posterior is uniform on [1.5, 2.5]; J is infinite, the forward KL is not."""
    text = """(let [z (sample (uniform-continuous 0 3))]
      (observe (uniform-continuous z (+ z 1)) 2.5) z)"""
    compiled = compile_program(text, "z.daphne")
    (folder / "graph.json").write_text(json.dumps(compiled.document))
    (folder / "train.toml").write_text(CONFIG.replace("= 60", "= 400"))
    metrics = json.loads(train(folder, "--json"))["metrics"]
    assert metrics["best_j"] is None
    assert 0.0 < metrics["without_density"] < 0.4
    assert metrics["best_j_of_others"] < 0.5
    log = (folder / "artifact.training" / "log.jsonl").read_text()
    assert "the forward KL is followed" in log
    assert "of the flow's draws have no density and weigh nothing" in train(folder)
    found = json.loads(
        good(
            "sample", folder / "artifact", folder / "graph.json", "-o", folder / "p",
            "--num-particles", 20_000, "--json",
        )
    )  # fmt: skip
    (latent,) = found["latents"]
    assert abs(latent["mean"] - 2.0) < 0.02
    assert abs(found["log_evidence"] - math.log(1 / 3)) < 0.03


def test_a_flow_without_a_finite_estimate_ends_with_its_own_code(folder):
    """The model has a density on a curve that no draw of the flow meets."""
    text = """(let [z (sample (normal 0 1))]
      (observe (uniform-continuous (* z z) (+ (* z z) 1e-9)) 2.5) z)"""
    compiled = compile_program(text, "z.daphne")
    (folder / "graph.json").write_text(json.dumps(compiled.document))
    said = json.loads(train(folder, "--json", caller=doubted))
    assert said["ok"] is False
    assert said["metrics"]["best_j"] is None
    said = train(folder, caller=doubted)
    assert "no certified estimate was finite: this flow cannot be trusted" in said


def test_nuisances_are_given_per_latent_and_shown_by_inspect(folder):
    table = "\n[augment]\ndefault = 1\nsample2 = 3\n"
    (folder / "train.toml").write_text(CONFIG + table)
    train(folder)
    found = json.loads(good("inspect", folder / "artifact", "--json"))
    structure = found["structure"]
    counts = dict(zip(structure["latents"], structure["nuisances"], strict=True))
    assert counts == {"sample1": 1, "sample2": 3}
    assert found["columns"]["nuisances"] == 4
    assert "nuisances" in good("inspect", folder / "artifact")
    written = (folder / "artifact.training" / "config.toml").read_text()
    assert tomllib.loads(written)["augment"] == {"default": 1, "sample2": 3}
    good(
        "sample", folder / "artifact", folder / "graph.json", "-o", folder / "p",
        "--num-particles", 100,
    )  # fmt: skip


def test_augment_on_the_command_line_replaces_the_configurations(folder):
    (folder / "train.toml").write_text("augment = 5\n" + CONFIG)
    train(folder, "--augment", 0)
    manifest = json.loads((folder / "artifact" / "manifest.json").read_text())
    assert manifest["structure"]["nuisances"] == [0, 0]
    assert manifest["training"]["config"]["augment"] == 0


def test_nuisances_may_be_left_to_be_chosen(folder):
    said = train(folder, "--augment", "auto", caller=ended_well)
    assert re.search(r"iteration \d+: nuisances: \w+ \d, \w+ \d\n", said)
    structure = json.loads(good("inspect", folder / "artifact", "--json"))["structure"]
    counts = dict(zip(structure["latents"], structure["nuisances"], strict=True))
    kept = json.loads((folder / "artifact.training" / "nuisances.json").read_text())
    assert kept["nuisances"] == counts
    asked = ("train", folder / "graph.json", "-o", folder / "artifact", "--resume")
    good(*asked)
    good(*asked, "--augment", "auto")
    again = json.loads(good("inspect", folder / "artifact", "--json"))["structure"]
    assert again == structure
    (folder / "artifact.training" / "nuisances.json").write_text("[" * 100_000)
    assert "nuisances.json: the file is damaged; train without" in bad(*asked)
    for wrong in ("many", "-1", "1001", "1.5"):
        assert "--augment" in train(folder, "--augment", wrong, caller=bad)
    said = train(folder, "--augment", "Auto", caller=bad)
    assert "'Auto' is neither a whole number nor auto" in said


def test_nuisances_of_no_latent_are_refused_before_any_file(folder):
    (folder / "train.toml").write_text(CONFIG + "\n[augment]\nz9 = 3\n")
    said = train(folder, caller=bad)
    assert "augment, z9: no latent of this name" in said
    assert not (folder / "artifact.training").exists()


@pytest.mark.parametrize("kind", ["file", "link", "folder", "folder with config"])
def test_something_else_beside_the_artifact_is_refused_before_any_work(folder, kind):
    place = folder / "artifact.training"
    if kind == "file":
        place.write_text("precious")
    elif kind == "link":
        place.symlink_to(folder / "graph.json")
    else:
        place.mkdir()
        (place / "thesis.tex").write_text("precious")
    if kind == "folder with config":
        (place / "config.toml").write_text("")
    before = sorted(each.name for each in folder.rglob("*"))
    said = train(folder, caller=bad)
    assert "artifact.training: something else is in this place" in said
    assert sorted(each.name for each in folder.rglob("*")) == before


@pytest.fixture
def rows(tmp_path):
    """Rows of `a`, normal around -3 with deviation 0.5, in place of its prior."""
    values = np.random.default_rng(0).normal(-3.0, 0.5, 4000)
    np.savez(tmp_path / "rows.npz", sample1=values)
    return tmp_path / "rows.npz"


def test_latents_from_a_file_train_the_flow_without_a_density(folder, rows):
    train(folder, "--latents-from", rows, "--objective", "forward")
    graph = Graph.from_document(load_document(folder / "graph.json"))
    model = Model.from_graph(graph)
    artifact = Artifact.load(folder / "artifact")
    assert artifact.without_density == ("sample1",)
    kept = artifact.manifest.training.config["latents_from"]
    assert (kept["rows"], kept["held_out_rows"]) == (3600, 400)
    assert "best_j" not in artifact.manifest.training.metrics
    flow = artifact.flow_for(graph, model.layout, weighted=False)
    observed = model.observation().expand(4000, -1)
    draw = flow.rsample_and_log_prob(
        observed, generator=torch.Generator().manual_seed(0)
    )
    # a ~ N(-3, 1/4); b = 2 a + N(0, 1); x = a + N(0, 1); y = b + N(0, 1/4)
    prior = np.array([[0.25, 0.5], [0.5, 2.0]])
    gain = prior @ np.linalg.inv(prior + np.diag([1.0, 0.25]))
    mean = np.array([-3.0, -6.0]) + gain @ (np.array([0.5, 1.5]) - [-3.0, -6.0])
    deviation = np.sqrt(np.diag(prior - gain @ prior))
    # the data lie far outside what is trained on; the affine layer extrapolates
    gap = np.abs(draw.free.mean(0).numpy() - mean) / deviation
    assert (gap < 0.5).all()
    log = log_of(folder)
    values = [r["certified_forward"]["mean"] for r in log if r["certified_forward"]]
    assert len(values) > 1
    assert all(r["certified"] is None and r["ess"] is None for r in log)
    # the forward KL up to the entropy of the draws: that of p(a, b | x, y)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * (prior - gain @ prior))[1]
    assert abs(min(values) - entropy) < 0.15


def test_what_needs_a_density_of_file_latents_is_refused_in_one_sentence(folder, rows):
    said = train(folder, "--latents-from", rows, caller=bad)
    assert "only the forward objective" in said
    assert "expected objective forward; got symmetric" in said
    assert not (folder / "artifact.training").exists()
    train(folder, "--latents-from", rows, "--objective", "forward")
    for command in (
        ("sample", folder / "artifact", folder / "graph.json", "-o", folder / "p"),
        ("smc", folder / "artifact", folder / "graph.json", "-o", folder / "p"),
        ("evaluate", folder / "artifact", folder / "graph.json"),
        ("diagnose", folder / "artifact", folder / "graph.json", "-o", folder / "d"),
    ):
        said = bad(*command)
        assert "latents of this flow have no density (sample1)" in said
        assert "Traceback" not in said
    assert not (folder / "p").exists()
    good(
        "sample", folder / "artifact", folder / "graph.json", "-o", folder / "p",
        "--num-particles", 100, "--unweighted",
    )  # fmt: skip
    assert (folder / "p" / "particles.npz").exists()
    assert "no density, so no weights" in good("inspect", folder / "artifact")


def test_an_interrupted_run_is_not_continued_with_other_rows(folder, rows):
    options = ("--latents-from", rows, "--objective", "forward")
    train(folder, *options)
    np.savez(rows, sample1=np.random.default_rng(1).normal(-3.0, 0.5, 4000))
    said = train(folder, *options, "--resume", caller=bad)
    assert "the checkpoint has another configuration" in said
    assert "latents_from" in said


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"sample2": [1.0, 2.0]}, "sample2 depends on other nodes"),
        ({"nobody": [1.0, 2.0]}, "no latent of this name"),
        ({"sample1": [[1.0, 2.0]]}, "wrong number of columns"),
        ({"sample1": []}, "no rows"),
        ({"sample1": 3.0}, "no rows"),
        ({}, "no array"),
    ],
)
def test_rows_that_fit_no_latent_are_refused_before_any_file(folder, arrays, sentence):
    np.savez(folder / "rows.npz", **{k: np.array(v) for k, v in arrays.items()})
    said = train(
        folder, "--latents-from", folder / "rows.npz", "--objective", "forward",
        caller=bad,
    )  # fmt: skip
    assert sentence in said
    assert not (folder / "artifact.training").exists()


def test_a_second_training_into_the_same_artifact_is_refused(folder):
    training = folder / "artifact.training"
    sentence = f"{training}: another training is going on here; expected one at a time"
    with own_folder(training, "training"):
        for options in ((), ("--resume",)):
            assert sentence in train(folder, *options, caller=bad)
        assert list(training.iterdir()) == []
    train(folder)
    assert (folder / "artifact" / "manifest.json").exists()


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta"])
def test_a_device_that_is_not_there_is_refused(folder, device):
    said = train(folder, "--device", device, caller=bad)
    assert "device: no such device here; expected cpu" in said
    assert f"got {device}" in said
    assert not (folder / "artifact.training").exists()


@pytest.mark.cuda
def test_a_flow_is_trained_on_a_gpu(folder):
    train(folder, "--device", "cuda")
    metrics = json.loads((folder / "artifact" / "manifest.json").read_text())[
        "training"
    ]
    assert metrics["metrics"]["best_j"] < 0.1
    assert "engine fused" in train(
        folder, "--device", "cuda", "--engine", "fused", caller=bad
    )


def test_a_latent_without_a_free_column_is_refused(folder):
    program = (
        "(let [p (sample (dirichlet [1.0]))] (observe (normal (get p 0) 1) 0.5) p)"
    )
    compiled = compile_program(program, "one.daphne")
    (folder / "graph.json").write_text(json.dumps(compiled.document))
    said = train(folder, caller=bad)
    assert "sample0: no free column; expected a continuous latent" in said


def test_a_program_and_its_table_stand_in_place_of_a_document(tmp_path):
    program, table = tmp_path / "level.daphne", tmp_path / "table.csv"
    program.write_text(
        "(let [level (sample (normal 0 1))]"
        " (map (fn [y] (observe (normal level 1) y)) ys) level)"
    )
    table.write_text("ys\n0.5\n1.5\n")
    (tmp_path / "train.toml").write_text(CONFIG)
    artifact, model = tmp_path / "artifact", (program, "--data", table)
    good("train", *model, "-o", artifact, "--config", tmp_path / "train.toml")
    figures = json.loads(
        good("evaluate", artifact, *model, "--num-draws", 1000, "--json")
    )
    assert (
        abs(figures["j"]["symmetric"]["mean"]) < 0.01
    )  # conjugate: its inverse is affine
    good("diagnose", artifact, *model, "-o", tmp_path / "diagnosis")
    request = b'{"num_particles": 1000, "seed": 1}\n'
    said = json.loads(good("serve", artifact, *model, "--stdio", input=request))
    # Precision 1 + 2 of a normal posterior, and mean (0.5 + 1.5) / 3.
    [levels] = said["latents"].values()
    assert np.mean(levels) == pytest.approx(2 / 3, abs=0.1)
