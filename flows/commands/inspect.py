"""This file is `daphne-flows inspect`: what an artifact holds, after all its checks."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from daphne_bridge.command_line import guarded, print_json

from ..report.tables import cells
from ..storage.artifact import Artifact
from .inputs import PATH, json_option, print_table

__all__ = ["inspect_command"]

_LONGEST = 80


@click.command("inspect")
@click.argument("artifact", type=PATH)
@json_option
@guarded
def inspect_command(artifact: Path, *, as_json: bool) -> None:
    """Show what ARTIFACT holds: model, inverse, network, training, solver, files.

    Everything is checked first, as every other command does it.
    """
    found = _description(Artifact.load(artifact), artifact)
    if as_json:
        print_json(found)
    else:
        print_table(_tables(found))


def _description(artifact: Artifact, path: Path) -> dict[str, Any]:
    """Return what the artifact holds as plain values."""
    manifest = artifact.manifest
    structure = artifact.flow().structure
    supports = {v["name"]: v for v in manifest["layout"]["latents"]}
    numbers = {
        part: sum(
            tensor.numel()
            for name, tensor in artifact.tensors.items()
            if name.startswith(f"{part}.")
        )
        for part in ("field", "normalisation")
    }
    return {
        "ok": True,
        "artifact": str(path),
        "format": manifest["format"],
        "version": manifest["version"],
        "model": {
            "digest": manifest["model"]["digest"],
            "without_density": list(artifact.without_density),
            "nodes": [
                {
                    **{k: node[k] for k in ("name", "label", "observed", "link")},
                    "parents": node["parents"],
                    "support": supports.get(node["name"], {}).get("support"),
                    "shape": _shape_of(manifest["layout"], node["name"]),
                }
                for node in manifest["model"]["nodes"]
            ],
        },
        "inverse": manifest["inverse"],
        "architecture": {
            **manifest["architecture"],
            "state_columns": structure.state_dim,
            "free_columns": structure.free_dim,
            "nuisance_columns": structure.nuisance_dim,
            "observed_columns": structure.observed_dim,
        },
        "parameters": {
            "vector_field": numbers["field"],
            "normalisation": numbers["normalisation"],
        },
        "normalisation": manifest["normalisation"],
        "factors": manifest.get("factors", []),
        "solver": manifest["solver"],
        "training": manifest["training"],
        "libraries": manifest["libraries"],
        "checksum": manifest["checksum"],
        "files": manifest["files"],
    }


def _shape_of(layout: Mapping[str, Any], name: str) -> list[int]:
    variables = [*layout["latents"], *layout["observed"]]
    return next((list(v["shape"]) for v in variables if v["name"] == name), [])


def _tables(found: Mapping[str, Any]) -> Group:
    labels = {node["name"]: node["label"] for node in found["model"]["nodes"]}
    parts: list[Table | Text] = [
        *cells(f"{found['artifact']}: {found['format']}, version {found['version']}"),
        _model_table(found["model"]["nodes"]),
        _inverse_table(found, labels),
    ]
    shape = found["architecture"]
    parameters = found["parameters"]
    hidden = shape["hidden"] or "as many as state columns"
    rows = [
        (
            "columns",
            f"{shape['state_columns']} of the state: {shape['free_columns']} free, "
            f"{shape['nuisance_columns']} nuisances; "
            f"{shape['observed_columns']} observed",
        ),
        (
            "network",
            f"{shape['layers']} layers, hidden units per latent: {hidden}"
            + (", residual" if shape["residual"] else ""),
        ),
        (
            "parameters",
            f"{parameters['vector_field']} trained, "
            f"{parameters['normalisation']} of the normalisation",
        ),
        ("normalisation", found["normalisation"]),
        (
            "solver",
            "{method}, tolerance {tolerance:g}, {precision}".format(**found["solver"]),
        ),
        ("seed", str(found["training"]["seed"])),
        *(
            [("no density, so no weights", _cut(", ".join(without)))]
            if (without := [labels[n] for n in found["model"]["without_density"]])
            else []
        ),
        *(
            (f"trained: {name}", text)
            for name, text in _flat(found["training"]["metrics"])
        ),
        *(
            (f"setting: {name}", text)
            for name, text in _flat(found["training"]["config"])
        ),
        ("libraries", ", ".join(f"{n} {v}" for n, v in found["libraries"].items())),
        ("model digest", found["model"]["digest"]),
        ("checksum", found["checksum"]),
        *(
            (name, f"{entry['bytes']} bytes, {entry['digest']}")
            for name, entry in found["files"].items()
        ),
    ]
    table = Table(title="flow", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(*cells(name, text))
    return Group(*parts, table)


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


def _inverse_table(found: Mapping[str, Any], labels: Mapping[str, str]) -> Table:
    table = Table(title="inverse, in sampling order", title_justify="left")
    table.add_column("latent")
    table.add_column("reads")
    table.add_column("nuisances", justify="right")
    for name, nuisances in zip(
        found["inverse"]["latents"], found["architecture"]["auxiliary"], strict=True
    ):
        parents = found["inverse"]["parents"][name]
        table.add_row(
            *cells(
                labels.get(name, name),
                _cut(", ".join(labels.get(p, p) for p in parents)),
                str(nuisances),
            )
        )
    return table


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names joined by dots with values as text."""
    stack = [("", values)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping):
            inner = [(f"{name}.{k}" if name else str(k), v) for k, v in value.items()]
            stack.extend(reversed(inner))
        elif isinstance(value, float) and math.isfinite(value):
            yield name, f"{value:.6g}"
        else:
            yield name, _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
