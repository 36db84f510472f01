"""This file makes a small artifact with random weights for tests, and rewrites it."""

import hashlib
import json

import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.cnf.vector_field import FieldConfig
from flows.flow.building import build_structure
from flows.flow.factors import find_factors
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.storage.artifact import Artifact

from .conftest import pair_document

__all__ = ["rewrite", "save_document", "save_pair"]


def save_pair(path):
    """Write the artifact of the pair model; return its graph and model."""
    return save_document(path, pair_document())


def save_document(path, document):
    """Write the artifact of a document's, or a graph's, model; return both."""
    graph = (
        document
        if isinstance(document, Graph)
        else Graph.from_document(document_from_json(document, "pair.json"))
    )
    model = Model.from_graph(graph)
    draws = model.sample(2000, generator=torch.Generator().manual_seed(1))
    free = model.unconstrain(draws.latents)[0]
    structure = find_factors(
        build_structure(invert(graph), model.layout, nuisances=1),
        model.layout,
        {node.name: node.parents for node in graph.nodes},
        free,
        draws.observed,
    )
    flow = build_flow(structure, FieldConfig(layers=3, hidden=4), seed=3)
    flow.normalisation.fit(free, draws.observed)
    artifact = Artifact.from_flow(
        flow, graph, model.layout, seed=3, config={"a": {"b": 1}}, metrics={"j": 0.125}
    )
    artifact.save(path)
    return graph, model


def rewrite(folder, change, contents=()):
    """Change the manifest, and other files, and make digests and checksum right again.

    Args:
        folder: The artifact.
        change: Edits the manifest in place.
        contents: Pairs of a file's name and its new bytes.
    """
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, content in contents:
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"bytes": len(content), "digest": f"sha256:{digest}"}
    change(manifest)
    blank = {**manifest, "checksum": ""}
    text = json.dumps(blank, sort_keys=True, separators=(",", ":"))
    manifest["checksum"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest))
