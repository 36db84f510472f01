"""This file keeps a trained flow on disk and gives it back, or says why not.

An artifact is a folder of three files.

- `manifest.json`: what the flow is of and how it computes; `manifest.schema.json`
  describes it. It names the length and digest of the other two, and its own checksum.
- `weights.safetensors`: the parameters of the vector field and the numbers of the
  normalisation. No pickle is read or written.
- `golden.json`: a few base points and observations with the end points and log
  densities that this flow gave, so that any reader can test itself.

Loading checks checksum, version, digests and golden values. Whoever wrote it is not
trusted: sizes are compared with the files that are there before anything is made of
that size, files must be plain and inside the folder. An artifact belongs to a
*model*: `flow_for` accepts every graph with the model's digest, whatever its names,
numbering and data, and returns the flow in that graph's own columns.
"""

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jsonschema import Draft202012Validator
from safetensors import SafetensorError
from torch import Tensor

from daphne_bridge.graph.expression import Call, Constant, show
from daphne_bridge.graph.graph import Graph, Node

from ..cnf.engine import AdaptiveEngine
from ..cnf.engines import weighing_engine
from ..cnf.flow import ConditionalFlow
from ..cnf.vector_field import FieldConfig
from ..errors import ArtifactError, Problem
from ..flow.building import InverseLike, build_structure
from ..flow.structure import Factor, StateBlock, Structure
from ..model.layout import Layout, Variable
from .artifact_checks import AFFINE, FACTORS, check_claims, check_weight_counts
from .folders import read_file, write_folder

__all__ = ["FORMAT_VERSIONS", "Artifact", "build_inverse", "first_difference"]

FORMAT_VERSIONS = (1, 2)
"""2 adds factors; without them 1 is written, for readers that know no more."""
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
GOLDEN = "golden.json"

_NUM_GOLDEN = 4
_GOLDEN_SEED = 20200826
_GOLDEN_TOLERANCE = 1e-6
_MANIFEST_LIMIT = 256 * 2**20
_LIMITS = {WEIGHTS: 8 * 2**30, GOLDEN: 2**30}
_MOST_GOLDEN = 1000
_LINK_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Artifact:
    """A flow with all that is needed to use it.

    Attributes:
        manifest: As written to `manifest.json`.
        tensors: As written to `weights.safetensors`.
        golden: As written to `golden.json`.
        source: Folder for messages.
    """

    manifest: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    golden: Mapping[str, Any]
    source: str

    @classmethod
    def from_flow(
        cls,
        flow: ConditionalFlow,
        graph: Graph,
        layout: Layout,
        *,
        seed: int,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        without_density: Sequence[str] = (),
        tolerance: float = 1e-6,
    ) -> "Artifact":
        """Return the artifact of a trained flow.

        Args:
            flow: In the columns of `layout`.
            graph: Of the model it was trained on.
            layout: Of that graph.
            seed: Of training.
            config: Resolved configuration of training, plain values.
            metrics: What training measured, plain values.
            without_density: Latents whose values came from a file, by the document's
                names.
            tolerance: Of the solver that weights use, relative and absolute.
        """
        blocks = flow.structure.blocks
        manifest = {
            "format": "daphne-flows artifact",
            "version": 2 if flow.structure.factors else 1,
            "checksum": "",
            "model": {
                "digest": graph.digest,
                "order": list(graph.canonical.order),
                "nodes": [_node_entry(graph, node) for node in graph.nodes],
                **(
                    {"without_density": list(without_density)}
                    if without_density
                    else {}
                ),
            },
            "layout": {
                "latents": [
                    {**_variable_entry(v), **_support_entry(graph.node(v.name))}
                    for v in layout.latents
                ],
                "observed": [_variable_entry(v) for v in layout.observed],
            },
            "inverse": _inverse_entry(flow.structure, layout),
            "architecture": {
                "auxiliary": [block.nuisances for block in blocks],
                **asdict(flow.config),
            },
            "base": "standard normal",
            "auxiliary_reference": "standard normal",
            "normalisation": FACTORS if flow.structure.factors else AFFINE,
            **(
                {"factors": [asdict(factor) for factor in flow.structure.factors]}
                if flow.structure.factors
                else {}
            ),
            "solver": {
                "method": "dopri5",
                "tolerance": tolerance,
                "precision": "float64",
            },
            "files": {},
            "training": {
                "seed": seed,
                "config": dict(config),
                "metrics": dict(metrics),
            },
            "libraries": {
                "python": platform.python_version(),
                **{
                    name: version(name)
                    for name in ("daphne-bridge", "torch", "torchdiffeq", "numpy")
                },
            },
        }
        tensors = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in flow.state_dict().items()
        }
        made = cls(manifest, tensors, {}, "<artifact>")
        golden = _golden_values(made._golden_flow(), tolerance)
        return cls(manifest, tensors, golden, "<artifact>")

    def save(self, path: Path) -> None:
        """Write the folder, whole or not at all.

        Raises:
            ArtifactError: If something else is in the place, or it cannot be written.
        """
        weights = safetensors.torch.save(dict(self.tensors))
        golden = (json.dumps(self.golden, indent=1) + "\n").encode()
        manifest = dict(self.manifest)
        manifest["files"] = {
            WEIGHTS: _file_entry(weights),
            GOLDEN: _file_entry(golden),
        }
        manifest["checksum"] = _checksum(manifest)
        text = (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()
        write_folder(
            path, {WEIGHTS: weights, GOLDEN: golden, MANIFEST: text}, marker=MANIFEST
        )

    @classmethod
    def load(cls, path: Path) -> "Artifact":
        """Return the artifact in a folder, checked from end to end.

        Raises:
            ArtifactError: If a file is missing, cut or changed, if the format is
                another, or if the flow does not reproduce its golden values.
        """
        manifest = _load_manifest(path)
        weights = _checked_bytes(path, WEIGHTS, manifest)
        try:
            golden = json.loads(_checked_bytes(path, GOLDEN, manifest))
        except (ValueError, RecursionError):
            raise ArtifactError(Problem(str(path / GOLDEN), "not JSON")) from None
        try:
            tensors = safetensors.torch.load(weights)
        except (SafetensorError, ValueError, KeyError, OverflowError) as error:
            raise ArtifactError(
                Problem(str(path / WEIGHTS), f"not a safetensors file: {error}"[:200])
            ) from None
        artifact = cls(manifest, tensors, golden, str(path))
        check_claims(manifest, tensors, str(path / MANIFEST), str(path / WEIGHTS))
        artifact.check_golden()
        return artifact

    @property
    def layout(self) -> Layout:
        """The columns in which the flow was trained."""
        parts = (
            tuple(
                Variable(
                    name=entry["name"],
                    label=entry["label"],
                    shape=tuple(entry["shape"]),
                    start=entry["start"],
                    stop=entry["stop"],
                    free_start=entry["free_start"],
                    free_stop=entry["free_stop"],
                )
                for entry in self.manifest["layout"][part]
            )
            for part in ("latents", "observed")
        )
        return Layout(*parts)

    @property
    def tolerance(self) -> float:
        """Tolerance of the solver that weights use."""
        return float(self.manifest["solver"]["tolerance"])

    def flow(self) -> ConditionalFlow:
        """Return the flow in the columns it was trained in, in float64.

        Raises:
            ArtifactError: If the tensors do not fit the architecture.
        """
        return self._build(self._structure(), self.tensors)

    @property
    def without_density(self) -> tuple[str, ...]:
        """Latents whose values came from a file when the flow was trained."""
        return tuple(self.manifest["model"].get("without_density", ()))

    def flow_for(
        self, graph: Graph, layout: Layout, *, weighted: bool = True
    ) -> ConditionalFlow:
        """Return the flow in the columns of a graph of the same model, in float64.

        Args:
            graph: A graph with this model's digest.
            layout: Of that graph.
            weighted: Whether its draws are to be weighted, or its densities compared
                with the model's.

        Raises:
            ArtifactError: If the graph is of another model; the message names the
                first difference. If a latent has no density, and weights are wanted.
        """
        if weighted and self.without_density:
            nodes = self.manifest["model"]["nodes"]
            labels = {node["name"]: node["label"] for node in nodes}
            shown = ", ".join(labels[n] for n in self.without_density[:3])
            raise ArtifactError(
                Problem(
                    self.source,
                    f"latents of this flow have no density ({shown}"
                    + (", ..." if len(self.without_density) > 3 else "")
                    + "), as their values came from a file; so its draws have no "
                    "weights, and J no value",
                    "`daphne-flows sample --unweighted`",
                )
            )
        if graph.digest != self.manifest["model"]["digest"]:
            raise ArtifactError(
                Problem(
                    self.source,
                    f"this artifact is of another model than {graph.source}: "
                    + first_difference(self.manifest["model"]["nodes"], graph),
                )
            )
        names = dict(
            zip(self.manifest["model"]["order"], graph.canonical.order, strict=True)
        )
        own = self.layout
        free = _column_map(own.latents, layout, names, free=True)
        observed = _column_map(own.observed, layout, names, free=False)
        structure = self._structure()
        blocks = tuple(
            StateBlock(
                name=names[block.name],
                free_columns=tuple(free[c] for c in block.free_columns),
                nuisances=block.nuisances,
                latent_parents=block.latent_parents,
                observed_columns=tuple(observed[c] for c in block.observed_columns),
            )
            for block in structure.blocks
        )
        tensors = dict(self.tensors)
        place = torch.tensor([observed[c] for c in range(len(observed))])
        for name in ("normalisation.observed_shift", "normalisation.observed_scale"):
            moved = torch.empty_like(tensors[name])
            moved[place] = tensors[name]
            tensors[name] = moved
        factors = tuple(
            Factor(
                latents=tuple(free[c] for c in factor.latents),
                observed=tuple(observed[c] for c in factor.observed),
                is_of_observed=factor.is_of_observed,
            )
            for factor in structure.factors
        )
        return self._build(Structure(blocks, structure.observed_dim, factors), tensors)

    def check_golden(self) -> None:
        """Compute the golden values anew and compare.

        Raises:
            ArtifactError: If they differ by more than the solver's error.
        """
        where = str(Path(self.source) / GOLDEN)
        flow = self._golden_flow()
        try:
            base = _matrix(self.golden["base"], flow.structure.state_dim)
            observed = _matrix(self.golden["observed"], flow.structure.observed_dim)
            latents = _matrix(self.golden["free"], flow.structure.free_dim)
            log_prob = torch.tensor(self.golden["log_prob"], dtype=torch.float64)
            rows = {len(base), len(observed), len(latents), *log_prob.shape}
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
            rows = set()
        if len(rows) != 1 or not 0 < rows.pop() <= _MOST_GOLDEN:
            raise ArtifactError(
                Problem(where, "damaged", "base, observed, free and log_prob")
            )
        found = _golden_values_of(flow, base, observed)
        allowed = _GOLDEN_TOLERANCE * (
            1.0 + latents.abs().amax() + log_prob.abs().amax()
        )
        difference = max(
            float((found[0] - latents).abs().amax()),
            float((found[1] - log_prob).abs().amax()),
        )
        if not difference <= float(allowed):
            raise ArtifactError(
                Problem(
                    where,
                    "the flow does not give its golden values",
                    f"a difference up to {float(allowed):.1e}",
                    f"{difference:.1e}",
                )
            )

    def _golden_flow(self) -> ConditionalFlow:
        """Return the flow with the solver of the golden values."""
        flow = self.flow()
        flow.engine = AdaptiveEngine(self.tolerance)
        return flow

    def _structure(self) -> Structure:
        manifest = self.manifest
        inverse = build_inverse(manifest["inverse"])
        nuisances = dict(
            zip(inverse.latents, manifest["architecture"]["auxiliary"], strict=True)
        )
        structure = build_structure(inverse, self.layout, nuisances)
        factors = tuple(
            Factor(
                latents=tuple(entry["latents"]),
                observed=tuple(entry["observed"]),
                is_of_observed=entry["is_of_observed"],
            )
            for entry in manifest.get("factors", ())
        )
        try:
            return replace(structure, factors=factors)
        except ValueError as error:
            where = f"{Path(self.source) / MANIFEST}: $.factors"
            raise ArtifactError(Problem(where, str(error)[:200])) from None

    def _build(
        self, structure: Structure, tensors: Mapping[str, Tensor]
    ) -> ConditionalFlow:
        shape = dict(self.manifest["architecture"])
        del shape["auxiliary"]
        config = FieldConfig(**shape)
        weights = str(Path(self.source) / WEIGHTS)
        check_weight_counts(structure, config, tensors, weights)
        flow = ConditionalFlow(
            structure, config, engine=weighing_engine(self.tolerance)
        )
        expected = {n: tuple(t.shape) for n, t in flow.state_dict().items()}
        got = {n: tuple(t.shape) for n, t in tensors.items()}
        if expected != got:
            name = next(
                n for n in sorted({*expected, *got}) if expected.get(n) != got.get(n)
            )
            raise ArtifactError(
                Problem(
                    weights,
                    f"the tensor {name[:60]} does not fit the architecture",
                    f"shape {expected.get(name)}",
                    f"{got.get(name)}",
                )
            )
        flow.load_state_dict(dict(tensors))
        for parameter in flow.parameters():
            parameter.requires_grad = False
        return flow.double().eval()


@dataclass(frozen=True, slots=True)
class _StoredInverse:
    latents: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]


def build_inverse(entry: Mapping[str, Any]) -> InverseLike:
    """Return the inverse of a manifest's entry `inverse`."""
    return _StoredInverse(
        tuple(entry["latents"]),
        {name: tuple(found) for name, found in entry["parents"].items()},
    )


def _node_entry(graph: Graph, node: Node) -> dict[str, Any]:
    link = show(node.distribution, graph.labels, limit=_LINK_WIDTH)
    if node.condition is not None:
        link += f" when {show(node.condition, graph.labels, limit=_LINK_WIDTH)}"
    return {
        "name": node.name,
        "label": node.label,
        "observed": node.is_observed,
        "link": link,
        "shape": graph.canonical.shape(node.name),
        "parents": list(node.parents),
    }


def _variable_entry(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "shape": list(variable.shape),
        "start": variable.start,
        "stop": variable.stop,
        "free_start": variable.free_start,
        "free_stop": variable.free_stop,
    }


def _inverse_entry(structure: Structure, layout: Layout) -> dict[str, Any]:
    owner = {
        column: variable.name
        for variable in layout.observed
        for column in range(variable.start, variable.stop)
    }
    parents = {
        block.name: [
            *(structure.blocks[parent].name for parent in block.latent_parents),
            *dict.fromkeys(owner[column] for column in block.observed_columns),
        ]
        for block in structure.blocks
    }
    return {"latents": list(structure.names), "parents": parents}


def _support_entry(node: Node) -> dict[str, Any]:
    """Return where a latent has mass; nothing if that depends on other nodes."""
    supports = {family.support for family in node.families}
    if len(supports) != 1:
        return {}
    entry: dict[str, Any] = {"support": supports.pop()}
    if entry["support"] != "interval":
        return entry
    match node.distribution:
        case Call(arguments=(*_, Constant(value=low), Constant(value=high))):
            return {**entry, "bounds": [float(low), float(high)]}
    return entry


def first_difference(nodes: Sequence[Mapping[str, Any]], graph: Graph) -> str:
    """Return the first difference between stored link functions and a graph's.

    Nodes are compared in program order; names and data do not count.
    """
    own = {entry["name"]: place for place, entry in enumerate(nodes)}
    theirs = {node.name: place for place, node in enumerate(graph.nodes)}
    for entry, node in zip(nodes, graph.nodes, strict=False):
        other = _node_entry(graph, node)
        kinds = ["observed" if e["observed"] else "latent" for e in (entry, other)]
        if kinds[0] != kinds[1]:
            return (
                f"{entry['label']} is {kinds[0]} in the artifact, "
                f"{other['label']} is {kinds[1]} in the document"
            )
        if entry["shape"] != other["shape"] or [own[p] for p in entry["parents"]] != [
            theirs[p] for p in other["parents"]
        ]:
            return (
                f"the link function of {entry['label']} is {entry['link']} in the "
                f"artifact, that of {other['label']} is {other['link']} in the document"
            )
    return (
        f"the artifact's model has {len(nodes)} nodes, "
        f"the document's {len(graph.nodes)}"
    )


def _column_map(
    variables: tuple[Variable, ...],
    layout: Layout,
    names: Mapping[str, str],
    *,
    free: bool,
) -> dict[int, int]:
    """Return, per column of the artifact, the graph's column."""
    columns: dict[int, int] = {}
    for variable in variables:
        other = layout.variable(names[variable.name])
        mine = (
            (variable.free_start, variable.free_stop)
            if free
            else (variable.start, variable.stop)
        )
        theirs = (
            (other.free_start, other.free_stop) if free else (other.start, other.stop)
        )
        columns.update(zip(range(*mine), range(*theirs), strict=True))
    return columns


def _golden_values(flow: ConditionalFlow, tolerance: float) -> dict[str, Any]:
    """Return a few base points and observations with what the flow makes of them."""
    generator = torch.Generator().manual_seed(_GOLDEN_SEED)
    structure = flow.structure
    base = torch.randn(
        _NUM_GOLDEN, structure.state_dim, generator=generator, dtype=torch.float64
    )
    spread = torch.randn(
        _NUM_GOLDEN, structure.observed_dim, generator=generator, dtype=torch.float64
    )
    normalisation = flow.normalisation
    observed = normalisation.observed_shift + spread * normalisation.observed_scale
    free, log_prob, nuisances, per_node = _golden_full(flow, base, observed)
    return {
        "description": (
            "Row by row: base points at t = 0 in state order, observed values, free "
            "coordinates and nuisances at t = 1, log q(free, auxiliary | observed) in "
            "nats in all and per node in sampling order."
        ),
        "tolerance": tolerance,
        "base": base.tolist(),
        "observed": observed.tolist(),
        "free": free.tolist(),
        "auxiliary": nuisances.tolist(),
        "log_prob": log_prob.tolist(),
        "log_prob_per_node": per_node.tolist(),
    }


def _golden_full(
    flow: ConditionalFlow, base: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.no_grad():
        free, nuisances, log_det = flow.base_to_latent(base, observed)
        per_node = flow.base_log_prob(base) - log_det
    return free, per_node.sum(-1), nuisances, per_node


def _golden_values_of(
    flow: ConditionalFlow, base: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor]:
    free, log_prob, _, _ = _golden_full(flow, base, observed)
    return free, log_prob


def _matrix(rows: Any, width: int) -> Tensor:
    matrix = torch.tensor(rows, dtype=torch.float64)
    return matrix.reshape(len(rows), width)


def _file_entry(content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"bytes": len(content), "digest": f"sha256:{digest}"}


def _checksum(manifest: Mapping[str, Any]) -> str:
    blank = {**manifest, "checksum": ""}
    text = json.dumps(blank, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@cache
def _validator() -> Draft202012Validator:
    text = files(__package__).joinpath("manifest.schema.json").read_text("utf-8")
    return Draft202012Validator(json.loads(text))


def _load_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a folder after checking its form and checksum."""
    place = path / MANIFEST
    if not path.is_dir():
        what = "this is a file" if path.exists() else "no such folder"
        raise ArtifactError(Problem(str(path), what, "an artifact, a folder"))
    content = _read_inside(
        path, MANIFEST, "the manifest of an artifact", _MANIFEST_LIMIT
    )
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        raise ArtifactError(
            Problem(str(place), "not JSON; cut short or damaged", "a manifest")
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != (
        "daphne-flows artifact"
    ):
        raise ArtifactError(Problem(str(place), "this is no manifest of an artifact"))
    if manifest.get("version") not in FORMAT_VERSIONS:
        raise ArtifactError(
            Problem(
                str(place),
                "this version of the format cannot be read",
                " or ".join(map(str, FORMAT_VERSIONS)),
                f"{manifest.get('version')!r}"[:40],
            )
        )
    problem = next(iter(_validator().iter_errors(manifest)), None)
    if problem is not None:
        raise ArtifactError(
            Problem(f"{place}: {problem.json_path}"[:300], problem.message[:120])
        )
    if manifest["checksum"] != _checksum(manifest):
        raise ArtifactError(
            Problem(
                str(place),
                "the manifest was changed after it was written",
                f"the checksum {_checksum(manifest)[:19]}...",
                f"{manifest['checksum'][:19]}...",
            )
        )
    return manifest


def _read_inside(path: Path, name: str, what: str, limit: int) -> bytes:
    """Return the content of a file that a folder holds itself."""
    place = path / name
    real = Path(os.path.realpath(place))
    if place.is_symlink() and real.parent != Path(os.path.realpath(path)):
        raise ArtifactError(
            Problem(str(place), "this link leads out of the artifact", "a file")
        )
    return read_file(place, what, limit=limit)


def _checked_bytes(path: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    """Return the content of a file whose length and digest the manifest states."""
    entry = manifest["files"][name]
    place = path / name
    if place.is_file():
        _check_length(place, place.stat().st_size, entry["bytes"])
    content = _read_inside(path, name, f"{name} of the artifact", _LIMITS[name])
    _check_length(place, len(content), entry["bytes"])
    if _file_entry(content) != entry:
        raise ArtifactError(
            Problem(str(place), "changed after it was written: the digest differs")
        )
    return content


def _check_length(place: Path, length: int, stated: int) -> None:
    if length != stated:
        what = "cut short" if length < stated else "too long"
        raise ArtifactError(
            Problem(str(place), what, f"{stated} bytes"[:80], f"{length}")
        )
