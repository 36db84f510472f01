"""This file writes what particles say, in the formats that others read.

A folder of results holds

- `summary.json`, the estimates and how far to trust them;
- `particles.npz`, values by name and `log_weights` (`inference.particle_file`);
- `particles-draws.npz`, equally weighted draws, if `sample` is asked for them;
- `particles.csv`, one row per particle: the label of every number, `log_weight`;
- `particles.json`, `{"log_weights": [...], "latents": {label: [...]}}`; null stands
  for a log weight of -inf;
- `particles.nc`, NetCDF as ArviZ reads it (an extra): `posterior` with one chain,
  `sample_stats/log_weight`, `prior`, `observed_data`. The posterior's draws are
  weighted: whoever reads them needs the log weights, or the resampled draws.

Every file is whole or not there.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.cautions import Caution
from ..inference.particles import Particles
from ..inference.summary import Summary
from ..model.model import Model
from ..optional import require
from .folders import write_file
from .json_values import json_bytes

__all__ = [
    "FORMATS",
    "check_formats",
    "csv_of",
    "json_of",
    "posterior_json",
    "save_posterior",
    "save_summary",
]

FORMATS = ("csv", "json", "netcdf")
"""Formats beside `particles.npz`."""


def check_formats(formats: tuple[str, ...]) -> None:
    """Raise unless everything that the formats need is installed.

    Raises:
        FlowsError: If a library is missing.
    """
    for library in ("arviz_base", "h5netcdf", "h5py"):
        if "netcdf" in formats:
            require(library, extra="arviz", where="--format netcdf")


def posterior_json(
    summary: Summary,
    model: Model,
    observed: Float[Tensor, " observed"],
    *,
    graph: Path,
    artifact: Path | None,
    proposal: str,
    seed: int,
    doubts: tuple[Caution, ...] = (),
    notes: tuple[Caution, ...] = (),
) -> dict[str, Any]:
    """Return what `summary.json` holds.

    Args:
        summary: Of the particles.
        model: What the particles are of.
        observed: The data.
        graph: Where the document was read from.
        artifact: Where the flow was read from, if there is one.
        proposal: What the particles were drawn from, in words.
        seed: Of the draws.
        doubts: More reasons not to trust the estimates.
        notes: What to know beside them.
    """
    plain = summary.to_json()
    plain["cautions"] = [*map(asdict, (*notes, *doubts, *summary.cautions))]
    names = (n for v in model.layout.observed for n in v.column_names)
    return {
        **plain,
        "ok": not (doubts or summary.cautions),
        "model_name": _model_name(graph),
        "model": model.graph.digest,
        "artifact": None if artifact is None else str(artifact),
        "graph": str(graph),
        "proposal": proposal,
        "seed": seed,
        "observed": dict(zip(names, observed.tolist(), strict=True)),
    }


def _model_name(graph: Path) -> str:
    """Return the name of a document, or of its folder if it is called like any."""
    if str(graph) == "-":
        return "standard input"
    return graph.resolve().parent.name if graph.name == "graph.json" else graph.stem


def save_summary(path: Path | str, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON, whole or not at all."""
    write_file(path, json_bytes(summary, str(path)))


def save_posterior(
    folder: Path | str,
    particles: Particles,
    summary: Mapping[str, Any],
    *,
    model: Model,
    formats: tuple[str, ...] = (),
    name: str = "particles",
) -> None:
    """Write particles in all formats asked for.

    Args:
        folder: Where; it is made if it is not there.
        particles: The particles.
        summary: What `posterior_json` returned.
        model: What the particles are of.
        formats: Names in `FORMATS`.
        name: Of the particles' files, without ending.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    particles.save(folder / f"{name}.npz")
    if "csv" in formats:
        write_file(folder / f"{name}.csv", csv_of(particles))
    if "json" in formats:
        write_file(folder / f"{name}.json", json_of(particles))
    if "netcdf" in formats:
        _save_netcdf(folder / f"{name}.nc", particles, summary, model)


def csv_of(particles: Particles) -> bytes:
    """Return the particles as comma-separated values, one row each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*particles.element_labels, "log_weight"])
    rows = torch.cat([particles.latents, particles.log_weights.unsqueeze(1)], 1)
    writer.writerows(rows.tolist())
    return stream.getvalue().encode()


def json_of(particles: Particles) -> bytes:
    """Return the particles as JSON: log weights, and values by label."""
    weights = particles.log_weights.tolist()
    value = {
        "log_weights": [None if w == -torch.inf else w for w in weights],
        "latents": {
            each.label: particles[each.name].tolist() for each in particles.columns
        },
    }
    return json_bytes(value, "particles.json", indent=None)


def _save_netcdf(
    path: Path, particles: Particles, summary: Mapping[str, Any], model: Model
) -> None:
    num = min(particles.num_particles, 10_000)
    generator = torch.Generator().manual_seed(int(summary["seed"]))
    prior = model.sample(num, generator=generator).latents
    tree = particles.to_arviz(
        prior={
            each.label: prior[:, each.start : each.stop]
            .reshape(num, *each.shape)
            .numpy()[None]
            for each in particles.columns
        },
        observed_data=dict(summary["observed"]),
    )
    # HDF5 locks its file itself, so it gets one of its own.
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        made = Path(scratch) / path.name
        tree.to_netcdf(made, engine="h5netcdf")
        write_file(path, made.read_bytes())
