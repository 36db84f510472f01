"""Tests of the Clojure reader in clj-programs/src against this package.

The oracle is torch in float64, for continuous flows with the same number of Runge-Kutta
steps; the reader shares no code with it. Skipped where Clojure or its library data.json
is missing.
"""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from scipy.stats import multivariate_normal, norm

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.autoregressive.conditioner import NetworkConfig
from flows.cnf.engine import TorchEngine
from flows.cnf.vector_field import FieldConfig
from flows.finite.flow import FiniteConfig
from flows.flow.building import build_structure, prepare_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.proposals.flow import FlowMap
from flows.storage.artifact import Artifact

from .commands.pair import CONFIG
from .commands.pair import good as done
from .conftest import pair_document
from .integrated.programs import CIRCUIT
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
PAIR = {
    "cnf": FieldConfig(layers=3, hidden=4),
    "autoregressive": NetworkConfig(components=3, layers=2, hidden=5),
    "finite": FiniteConfig(transform="planar", length=3, hidden=5, layers=2),
}
ON_SUPPORTS = {
    "cnf": FieldConfig(layers=4, hidden=0, residual=True),
    "autoregressive": NetworkConfig(components=4, layers=3, hidden=6),
    "finite": FiniteConfig(transform="radial", length=4, hidden=6, layers=1),
}
ON_MATRIX = {
    "cnf": FieldConfig(layers=2, hidden=6),
    "autoregressive": NetworkConfig(components=1, layers=1, hidden=3),
    "finite": FiniteConfig(transform="planar", length=2, hidden=3, layers=1),
}


def flow_of(graph, kind, config, nuisances):
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
    flow = build_flow(structure, config, kind=kind, seed=3)
    randomise(flow, model, 0.2)
    return flow, model


def value_of(row, variable):
    return row[variable.start : variable.stop].reshape(variable.shape).tolist()


def expected_rows(flow, model, num=3):
    """Return draws and densities by torch, one entry per row of observed values."""
    if flow.kind == "cnf":
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


def write_case(folder, graph, kind, config, nuisances, **more):
    folder.mkdir(parents=True)
    flow, model = flow_of(graph, kind, config, nuisances)
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
        "num_steps": NUM_STEPS if flow.kind == "cnf" else None,
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


def write_misfits(good, folder):
    """Write copies of an artifact whose tensors, or settings, are not of its kind.

    Checksums and digests are right.
    """
    tensors = load((good / "weights.safetensors").read_bytes())
    last = max(tensors)
    own = next(name for name in tensors if not name.startswith("normalisation"))
    for name, changed in (
        ("missing", {n: t for n, t in tensors.items() if n != last}),
        ("more", {**tensors, "strange": torch.zeros(1)}),
        ("longer", {**tensors, own: torch.cat([tensors[own]] * 2)}),
        ("shift", {**tensors, "normalisation.shift": torch.zeros(1)}),
    ):
        place = folder / "tensors" / f"{good.parent.name}-{name}"
        shutil.copytree(good, place)
        rewrite(place, same, [("weights.safetensors", save(changed))])
    settings = json.loads((good / "manifest.json").read_text())["flow"]["config"]
    wrong = (
        *({n: v for n, v in settings.items() if n != left} for left in settings),
        {**settings, "strange": 1},
        *({**settings, name: "strange"} for name in settings),
        *({**settings, name: 10**9} for name in ("layers", "hidden")),
        [],
    )
    for number, config in enumerate(wrong):
        place = folder / "settings" / f"{good.parent.name}-{number}"
        shutil.copytree(good, place)
        rewrite(place, lambda m, config=config: m["flow"].update(config=config))


def write_trained(folder):
    """Write what `train` makes of the circuit untold, and by the refusal's remedy."""
    folder.mkdir()
    (folder / "circuit.daphne").write_text(CIRCUIT)
    (folder / "train.toml").write_text(CONFIG.replace("= 60", "= 4"))
    for name, options in (("auto", ()), ("none", ("--integrate", "none"))):
        done(
            "train", folder / "circuit.daphne", "-o", folder / name,
            "--config", folder / "train.toml", "--kind", "auto", *options,
        )  # fmt: skip


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
    known = {"log_evidence": float(evidence), "posterior_mean": mean}
    pair = Graph.from_document(document_from_json(pair_document(), "pair.json"))
    supports, inputs = graph_of(SUPPORTS), graph_of(INPUTS)
    below = {supports.resolve("below"): supports.resolve("s")}
    for name, graph, more, nuisances, configs in (
        ("pair", pair, known, 1, PAIR),
        ("supports", supports, {"below": below}, 2, ON_SUPPORTS),
        ("matrix", graph_of(MATRIX), {}, 0, ON_MATRIX),
        ("inputs", inputs, {}, 1, PAIR),
    ):
        for kind, config in configs.items():
            folder = good / f"{name}-{kind}"
            write_case(folder, graph, kind, config, nuisances, **more)
    manifest = good / "inputs-cnf" / "artifact" / "manifest.json"
    assert len(json.loads(manifest.read_text())["structure"]["factors"]) == 3
    for each in EARLIER.glob("v*"):
        # Other kinds are refused, see `of_another_kind`.
        manifest = json.loads((each / "artifact" / "manifest.json").read_text())
        if manifest.get("flow", {}).get("kind", "cnf") in PAIR:
            shutil.copytree(each / "artifact", tmp_path / "earlier" / each.name)
    write_damaged(good / "pair-cnf" / "artifact", tmp_path / "bad")
    unknown = EARLIER / "v3-structured-gaussian-count" / "artifact"
    shutil.copytree(unknown, tmp_path / "bad" / "structured_gaussian")
    for kind in PAIR:
        write_misfits(good / f"pair-{kind}" / "artifact", tmp_path)
    write_trained(tmp_path / "trained")
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
