"""Tests of the Clojure reader in clj-programs/src against this package.

The oracle is torch with the same number of Runge-Kutta steps in float64; the reader
shares no code with it. Skipped where Clojure or its library data.json is missing.
"""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch
from scipy.stats import multivariate_normal, norm

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.cnf.engine import TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.flow.building import build_structure, prepare_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.proposals.flow import FlowMap
from flows.storage.artifact import Artifact

from .conftest import pair_document
from .model.programs import graph_of
from .random_weights import randomise
from .saved_artifact import rewrite
from .storage.test_artifact_checks import CLAIMS, claims_data_of_another_width, same

CLJ = Path(__file__).parents[2] / "clj-programs"
EARLIER = Path(__file__).parents[1] / "golden" / "artifacts"
JARS = [
    place
    for name in ("clojure.jar", "data.json.jar")
    if (place := Path("/usr/share/java") / name).is_file()
]
NUM_STEPS = 12

SUPPORTS = """
(let [s (sample (gamma 2 1))
      p (sample (beta 2 3))
      u (sample (uniform-continuous -1 3))
      below (sample (uniform-continuous 0 s))
      w (sample (dirichlet [1 2 3]))
      e (sample (exponential 2))
      m (sample (mvn [0 1] [[1 0.3] [0.3 2]]))]
  (observe (normal (+ u e) s) 0.5)
  (observe (normal (* p (+ below (get w 0))) 1) 1.5)
  (observe (mvn m [[1 0] [0 1]]) [0.2 0.4])
  [s p])
"""
MATRIX = """
(let [k (sample (wishart 4 [[1 0.2] [0.2 1]]))]
  (observe (normal (get (get k 0) 0) 1) 0.5)
  k)
"""
# Linear in the latents once the inputs are known: the affine layer has factors.
INPUTS = """
(let [x (observe (normal 0 1) 0.7)
      a (sample (normal 1 2))
      b (sample (normal (* x a) 1))]
  (observe (normal (+ a (* x b)) 0.5) 1.5)
  b)
"""


def flow_of(graph, config, nuisances):
    """Return a flow with random weights and its model."""
    model = Model.from_graph(graph)
    structure = prepare_structure(
        model,
        build_structure(invert(graph), model.layout, nuisances=nuisances),
        model.layout,
        {node.name: node.parents for node in graph.nodes},
        num_draws=5000,
        seed=0,
    )
    flow = build_flow(structure, config, seed=3)
    randomise(flow, model, 0.2)
    return flow, model


def value_of(row, variable):
    return row[variable.start : variable.stop].reshape(variable.shape).tolist()


def expected_rows(flow, model, num=3):
    """Return draws and densities by torch, one entry per row of observed values."""
    flow.engine = TorchEngine(NUM_STEPS)
    mapped = FlowMap(flow, model)
    joint = model.sample(num, generator=torch.Generator().manual_seed(4))
    rows = []
    for number in range(num):
        observed = joint.observed[number]
        base = flow.sample_base(1, generator=torch.Generator().manual_seed(number))
        drawn = mapped.from_base(base, observed)
        latents = joint.latents[number : number + 1]
        source = torch.Generator().manual_seed(7)
        width = flow.structure.nuisance_dim
        nuisances = torch.randn(1, width, generator=source, dtype=torch.float64)
        layout = model.layout
        entry = {
            "observed": {v.name: value_of(observed, v) for v in layout.observed},
            "base": base[0].tolist(),
            "drawn": {v.name: value_of(drawn.latents[0], v) for v in layout.latents},
            "drawn_nuisances": drawn.nuisances[0].tolist(),
            "drawn_log_prob": float(drawn.log_prob),
            "latents": {v.name: value_of(latents[0], v) for v in layout.latents},
            "nuisances": nuisances[0].tolist(),
            "log_prob": float(mapped.log_prob(latents, nuisances, observed)),
            "log_prob_per_site": {},
        }
        if layout.free_dim == layout.latent_dim and width == len(layout.latents):
            # Free coordinates are natural values, one nuisance each.
            nodes = flow.log_prob_per_node(latents, nuisances, observed[None])[0]
            reference = torch.from_numpy(norm.logpdf(nuisances[0].numpy()))
            entry["log_prob_per_site"] = dict(
                zip(flow.structure.names, (nodes - reference).tolist(), strict=True)
            )
        rows.append(entry)
    return rows


def write_case(folder, graph, config, nuisances, **more):
    folder.mkdir(parents=True)
    flow, model = flow_of(graph, config, nuisances)
    artifact = Artifact.from_flow(
        flow,
        graph,
        model.layout,
        seed=3,
        config={"text": 'an "odd" {name}, ü', "small": 1e-7},
        metrics={},
    )
    artifact.save(folder / "artifact")
    expected = {
        "num_steps": NUM_STEPS,
        "rows": expected_rows(artifact.flow_for(graph, model.layout), model),
        **more,
    }
    (folder / "expected.json").write_text(json.dumps(expected))


def write_damaged(good, bad):
    """Write damaged copies of an artifact, each in one way."""

    def copy(name):
        shutil.copytree(good, bad / name)
        return bad / name

    for file in ("manifest.json", "weights.safetensors", "golden.json"):
        content = (good / file).read_bytes()
        place = len(content) // 2
        flipped = bytearray(content)
        # In text, a digit rather than white space.
        while file.endswith("json") and not chr(flipped[place]).isdigit():
            place += 1
        flipped[place] ^= 1
        (copy(f"flipped-{file}") / file).write_bytes(bytes(flipped))
        (copy(f"cut-{file}") / file).write_bytes(content[:place])
        (copy(f"missing-{file}") / file).unlink()
    manifest = json.loads((good / "manifest.json").read_text())
    for name, change in (
        ("version", {"version": 99}),
        ("format", {"format": "other"}),
        ("base", {"base": "uniform"}),
    ):
        text = json.dumps({**manifest, **change})
        (copy(name) / "manifest.json").write_text(text)
    (copy("deep") / "manifest.json").write_text("[" * 200_000)
    # From here on checksum and digests are right.
    weights = (good / "weights.safetensors").read_bytes()
    lying = struct.pack("<Q", 2**62) + weights[8:]
    rewrite(copy("header"), same, [("weights.safetensors", lying)])
    golden = json.loads((good / "golden.json").read_text())
    golden["free"][0][0] += 0.01
    rewrite(copy("golden"), same, [("golden.json", json.dumps(golden).encode())])
    # The reader does not look at the data that a flow was refined for.
    claims = [each for each in CLAIMS if each is not claims_data_of_another_width]
    whole = (without_density, of_another_kind, of_fewer_latents, with_heads)
    for claim in (*claims, *whole):
        rewrite(copy(claim.__name__), claim)


def without_density(manifest):
    """An artifact that is whole, but whose draws have no weights."""
    manifest["model"]["without_density"] = [manifest["layout"]["latents"][0]["name"]]


def of_another_kind(manifest):
    """An artifact that is whole, of a kind of flow that this reader does not know."""
    manifest["flow"] = {"kind": "spline", "config": {"knots": 8}}


def of_fewer_latents(manifest):
    """An artifact that is whole, of a flow beside which others are drawn."""
    manifest["integrated"] = ["sample99"]


def with_heads(manifest):
    """An artifact that is whole, of a flow beside heads of discrete latents."""
    shape = {"layers": 2, "hidden": 8, "last_layer_scale": 0.1}
    cells = {"edges": [0, 1, 2], "has_lower": False, "has_upper": False}
    manifest["heads"] = {"config": shape, "cells": [cells]}


def test_the_clojure_reader_agrees_with_torch(tmp_path):
    if len(JARS) < 2 or shutil.which("java") is None:
        pytest.skip("Clojure is not installed: clojure, libdata-json-clojure")
    good = tmp_path / "good"
    evidence = multivariate_normal([1, 2], [[5, 8], [8, 17.25]]).logpdf([0.5, 1.5])
    # E[a | x, y] by the Gaussian conditioning formula; cov(a, (x, y)) = (4, 8).
    determinant = 5 * 17.25 - 64
    mean = (
        1
        + ((4 * 17.25 - 8 * 8) * (0.5 - 1) + (-4 * 8 + 8 * 5) * (1.5 - 2)) / determinant
    )
    write_case(
        good / "pair",
        Graph.from_document(document_from_json(pair_document(), "pair.json")),
        FieldConfig(layers=3, hidden=4),
        1,
        log_evidence=float(evidence),
        posterior_mean=mean,
    )
    supports = graph_of(SUPPORTS)
    below = {supports.resolve("below"): supports.resolve("s")}
    write_case(
        good / "supports",
        supports,
        FieldConfig(layers=4, hidden=0, residual=True),
        2,
        below=below,
    )
    write_case(
        good / "matrix",
        graph_of(MATRIX),
        FieldConfig(layers=2, hidden=6),
        0,
    )
    inputs = graph_of(INPUTS)
    write_case(good / "inputs", inputs, FieldConfig(layers=3, hidden=4), 1)
    manifest = json.loads((good / "inputs" / "artifact" / "manifest.json").read_text())
    assert len(manifest["structure"]["factors"]) == 3
    for each in EARLIER.glob("v*"):
        # The reader knows one kind; another is refused, see `of_another_kind`.
        manifest = json.loads((each / "artifact" / "manifest.json").read_text())
        if manifest.get("flow", {}).get("kind", "cnf") == "cnf":
            shutil.copytree(each / "artifact", tmp_path / "earlier" / each.name)
    write_damaged(good / "pair" / "artifact", tmp_path / "bad")
    path = os.pathsep.join([str(CLJ / "src"), str(CLJ / "test"), *map(str, JARS)])
    ran = subprocess.run(
        ["java", "-cp", path, "clojure.main", "-m", "daphne-flows.run-tests"],
        env={**os.environ, "DAPHNE_FLOWS_CASES": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-3000:]
    assert "0 failures, 0 errors" in ran.stdout
    assert "Reflection warning" not in ran.stderr
