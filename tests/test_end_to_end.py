"""Tests of the whole way, program or document in, weighted particles out."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from daphne_bridge.cli import main as bridge
from daphne_bridge.graph.document import load_document
from daphne_bridge.graph.graph import Graph
from flows.cli import main as flows

from .exact import joint_gaussian

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "clj-programs"
GOLDEN = ROOT / "tests" / "golden" / "programs"


def call(command, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def sampled(*arguments):
    """Return what `sample` says; its exit code says whether that can be trusted."""
    line = ("sample", *map(str, arguments), "--json")
    result = CliRunner().invoke(flows, line)
    said = json.loads(result.stdout)
    assert result.exit_code == (0 if said["ok"] else 3), result.output
    return said


@pytest.fixture(scope="module", params=["gaussian_tree", "state_space"])
def trained(request, tmp_path_factory):
    """A linear-Gaussian program with its graph, exact answer and artifact."""
    folder = tmp_path_factory.mktemp(request.param)
    graph = folder / "graph.json"
    call(bridge, "compile", PROGRAMS / f"{request.param}.daphne", "-o", graph)
    call(flows, "train", graph, "-o", folder / "artifact", "--budget", "60s")
    document = Graph.from_document(load_document(graph))
    data = {name: document.node(name).observation for name in document.observed}
    return folder, joint_gaussian(document).posterior(data)


@pytest.mark.slow
@pytest.mark.parametrize("proposal", ["flow", "prior"])
def test_evidence_and_means_are_the_exact_ones(trained, tmp_path, proposal):
    folder, exact = trained
    said = sampled(
        folder / "artifact", folder / "graph.json", "-o",
        tmp_path / "particles", "--num-particles", 10_000, "--proposal", proposal,
    )  # fmt: skip
    if proposal == "prior" and said["ess"] < 100:
        pytest.skip(f"the prior is no feasible proposal here: ESS {said['ess']:.1f}")
    error = said["log_evidence_standard_error"]
    assert abs(said["log_evidence"] - exact.log_evidence) < 3 * error + 1e-9
    place = {name: index for index, name in enumerate(exact.names)}
    deviations = np.sqrt(np.diag(exact.covariance))
    for latent in said["latents"]:
        index = place[latent["name"]]
        mean_error = latent["mean_standard_error"]
        assert abs(latent["mean"] - exact.mean[index]) < 4 * mean_error
        assert latent["sd"] == pytest.approx(deviations[index], rel=0.1)
    if proposal == "flow":
        assert said["ok"]
        assert said["ess_fraction"] > 0.95


@pytest.mark.slow
def test_other_data_need_no_other_training(trained, tmp_path):
    folder, _ = trained
    document = Graph.from_document(load_document(folder / "graph.json"))
    name = document.observed[0]
    data = {n: document.node(n).observation for n in document.observed}
    data[name] += 0.2
    exact = joint_gaussian(document).posterior(data)
    said = sampled(
        folder / "artifact", folder / "graph.json", "-o",
        tmp_path / "particles", "--observe", f"{name}={data[name]}",
    )  # fmt: skip
    error = said["log_evidence_standard_error"]
    assert abs(said["log_evidence"] - exact.log_evidence) < 3 * error + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["arith_circuit", "gauss_tree", "ssm_12", "eight_schools", "linreg_foreach"],
)
def test_documents_of_the_original_run_the_whole_way(name, tmp_path):
    graph = tmp_path / "graph.json"
    graph.write_bytes((GOLDEN / f"{name}.json").read_bytes())
    call(bridge, "check", graph)
    call(bridge, "invert", graph, "-o", tmp_path / "inverse.json")
    artifact = tmp_path / "artifact"
    call(flows, "train", graph, "-o", artifact, "--budget", "12s")
    said = sampled(
        artifact, graph, "-o", tmp_path / "particles",
        "--num-particles", 1000,
    )  # fmt: skip
    assert said["ess"] > 1
    assert np.isfinite(said["log_evidence"])
    # The embedded compiler's document of the same program is the same model.
    other = tmp_path / "embedded.json"
    call(bridge, "compile", GOLDEN / f"{name}.daphne", "-o", other)
    again = sampled(
        artifact, other, "-o", tmp_path / "again",
        "--num-particles", 1000,
    )  # fmt: skip
    assert again["log_evidence"] == pytest.approx(said["log_evidence"], abs=5.0)
