"""This file writes artifacts with what torch makes of them, for the Clojure reader."""

import json

import torch
from safetensors.torch import load_file
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

from .conftest import pair_document
from .model.programs import graph_of
from .random_weights import randomise

__all__ = ["KINDS", "write_agreeing"]

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
# Of two pairs of latents each reads five values of its own, for which a context of
# three numbers stands.
LONG = """
(let [m (sample (normal 0 2))
      s (sample (gamma 3 2))
      a (sample (normal 1 2))
      t (sample (gamma 3 2))]
  (observe (normal m s) 0.5)
  (observe (normal m s) 1.5)
  (observe (normal m s) -0.5)
  (observe (normal (* 2 m) s) 0.2)
  (observe (normal m (* 2 s)) 0.1)
  (observe (normal a t) 1.5)
  (observe (normal a t) 0.5)
  (observe (normal (* 3 a) t) 2.5)
  (observe (normal a t) 0.2)
  (observe (normal a (* 2 t)) 1.1)
  [m s a t])
"""
HEAVY = """
(let [m (sample (normal 0 1))
      s (sample (half-cauchy 1))]
  (foreach 12 [y [0.5 1.5 -0.5 0.2 0.1 1.5 0.5 2.5 0.2 1.1 0.4 0.3]]
    (observe (cauchy m s) y))
  [m s])
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
ON_LONG = {
    "autoregressive": NetworkConfig(
        components=3, layers=2, hidden=5, context=3, forms=4
    )
}

KINDS = tuple(PAIR)
"""Of flow, that the reader knows."""


def write_agreeing(good):
    """Write a case for each kind of flow on each model, in a folder `model-kind`."""
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
        ("long", graph_of(LONG), {}, 2, ON_LONG),
        ("heavy", graph_of(HEAVY), {}, 0, ON_LONG),
    ):
        for kind, config in configs.items():
            folder = good / f"{name}-{kind}"
            write_case(folder, graph, kind, config, nuisances, **more)
    tensors = load_file(
        good / "long-autoregressive" / "artifact" / "weights.safetensors"
    )
    assert len(tensors["conditioner.contexts.first"]) == 10
    assert tensors["conditioner.contexts.forms.directions"].shape == (10, 32)
    assert _has_data_far_out(good / "heavy-autoregressive")
    manifest = good / "inputs-cnf" / "artifact" / "manifest.json"
    assert len(json.loads(manifest.read_text())["structure"]["factors"]) == 3


def _has_data_far_out(case):
    """Return whether some data of the rows of a case grow by their logarithm."""
    tensors = load_file(case / "artifact" / "weights.safetensors")
    beyond = tensors["normalisation.observed_beyond"]
    assert (beyond == 10.0).all()
    rows = json.loads((case / "expected.json").read_text())["rows"]
    observed = torch.tensor([list(row["observed"].values()) for row in rows])
    shift, scale = (tensors[f"normalisation.observed_{n}"] for n in ("shift", "scale"))
    return bool((((observed - shift) / scale).abs() > beyond).any())


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


def value_of(row, variable):
    return row[variable.start : variable.stop].reshape(variable.shape).tolist()


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
