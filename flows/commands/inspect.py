"""This file is `daphne-flows inspect`: what an artifact holds, after all its checks."""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from daphne_bridge.command_line import PATH, guarded, json_option
from daphne_bridge.errors import shortened

from ..report.tables import cells
from ..storage.artifact import Artifact
from .output import print_figures

__all__ = ["inspect_command"]

_SOLVER = "{method}, tolerance {tolerance:g}, {precision}"
_cut = partial(shortened, limit=80)
_EDGES = {
    "inverse": "inverse, in sampling order",
    "structure": "what the flow reads",
}


@click.command("inspect")
@click.argument("artifact", type=PATH)
@json_option
@guarded
def inspect_command(artifact: Path, *, as_json: bool) -> None:
    """Show what ARTIFACT holds: model, inverse, network, training, solver, files.

    Everything is checked first, as every other command does it.
    """
    found = _description(Artifact.load(artifact), artifact)
    print_figures(found, _tables, as_json=as_json)


def _description(artifact: Artifact, path: Path) -> dict[str, Any]:
    """Return what the artifact holds as plain values."""
    entry = artifact.manifest.to_json()
    flow = artifact.flow()
    structure = flow.structure
    layout = artifact.manifest.layout
    variables = {v.name: v for v in (*layout.latents, *layout.observed)}
    held = sum(tensor.numel() for tensor in artifact.tensors.values())
    trained = sum(parameter.numel() for parameter in flow.parameters())
    return {
        "ok": True,
        "artifact": str(path),
        **entry,
        "model": {
            **entry["model"],
            "without_density": list(artifact.without_density),
            "nodes": [
                {
                    "name": node.name,
                    "label": node.label,
                    "observed": node.observed,
                    "link": node.link,
                    "parents": list(node.parents),
                    "support": getattr(variables.get(node.name), "support", None),
                    "shape": list(getattr(variables.get(node.name), "shape", ())),
                }
                for node in artifact.manifest.model.nodes
            ],
        },
        "columns": {
            "state": structure.state_dim,
            "free": structure.free_dim,
            "nuisances": structure.nuisance_dim,
            "observed": structure.observed_dim,
        },
        "parameters": {"trained": trained, "normalisation": held - trained},
    }


def _tables(found: Mapping[str, Any]) -> Group:
    labels = {node["name"]: node["label"] for node in found["model"]["nodes"]}
    parts: list[Table | Text] = [
        *cells(f"{found['artifact']}: {found['format']}, version {found['version']}"),
        _model_table(found["model"]["nodes"]),
        *(
            _edges_table(title, found[part], labels)
            for part, title in _EDGES.items()
            if part in found
        ),
    ]
    table = Table(title="flow", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in _rows(found, labels):
        table.add_row(*cells(name, text))
    return Group(*parts, table)


def _rows(
    found: Mapping[str, Any], labels: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield what is said of the flow, and of its training."""
    columns, parameters = found["columns"], found["parameters"]
    yield (
        "columns",
        f"{columns['state']} of the state: {columns['free']} free, "
        f"{columns['nuisances']} nuisances; {columns['observed']} observed",
    )
    yield "kind", found["flow"]["kind"]
    if names := found.get("integrated"):
        yield "drawn given the others", ", ".join(labels[name] for name in names)
    if heads := found.get("heads"):
        latents = found["structure"]["latents"]
        names = latents[len(latents) - len(heads["cells"]) :]
        yield "learned heads", _cut(", ".join(labels[name] for name in names))
        yield from _flat(heads["config"], "shape of heads: ")
    yield from _flat(found["flow"]["config"], "shape: ")
    yield (
        "parameters",
        f"{parameters['trained']} trained, "
        f"{parameters['normalisation']} of the normalisation",
    )
    yield "normalisation", found["normalisation"]
    if solver := found.get("solver"):
        yield "solver", _SOLVER.format(**solver)
    yield "seed", str(found["training"]["seed"])
    if without := [labels[name] for name in found["model"]["without_density"]]:
        yield "no density, so no weights", _cut(", ".join(without))
    if "data" in found:
        yield "refined for", _cut(", ".join(_data(found)))
    yield from _flat(found["training"]["metrics"], "trained: ")
    yield from _flat(found["training"]["config"], "setting: ")
    yield "libraries", ", ".join(f"{n} {v}" for n, v in found["libraries"].items())
    yield "model digest", found["model"]["digest"]
    yield "checksum", found["checksum"]
    for name, entry in found["files"].items():
        yield name, f"{entry['bytes']} bytes, {entry['digest']}"


def _data(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield each number of the data that the flow was refined for."""
    labels = [
        f"{v['label']}[{place}]" if v["stop"] - v["start"] > 1 else v["label"]
        for v in found["layout"]["observed"]
        for place in range(v["stop"] - v["start"])
    ]
    return (f"{n} = {x:g}" for n, x in zip(labels, found["data"], strict=True))


def _model_table(nodes: list[dict[str, Any]]) -> Table:
    table = Table(title="model", title_justify="left")
    for heading in ("node", "document", "kind", "link function", "support", "shape"):
        table.add_column(heading)
    for node in nodes:
        table.add_row(
            *cells(
                node["label"],
                node["name"],
                "observed" if node["observed"] else "latent",
                _cut(node["link"]),
                node["support"] or "",
                "x".join(map(str, node["shape"])),
            )
        )
    return table


def _edges_table(
    title: str, edges: Mapping[str, Any], labels: Mapping[str, str]
) -> Table:
    more = edges.get("nuisances")
    table = Table(title=title, title_justify="left")
    table.add_column("latent")
    table.add_column("reads")
    if more is not None:
        table.add_column("nuisances", justify="right")
    for number, name in enumerate(edges["latents"]):
        parents = _cut(", ".join(labels.get(p, p) for p in edges["parents"][name]))
        last = [] if more is None else [str(more[number])]
        table.add_row(*cells(labels.get(name, name), parents, *last))
    return table


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield names, joined by dots behind a prefix, with values as text."""
    stack = [("", values)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping):
            inner = [(f"{name}.{k}" if name else str(k), v) for k, v in value.items()]
            stack.extend(reversed(inner))
        elif isinstance(value, float) and math.isfinite(value):
            yield prefix + name, f"{value:.6g}"
        else:
            yield prefix + name, _cut(str(value))
