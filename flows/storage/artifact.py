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

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from daphne_bridge.graph.graph import Graph

from ..errors import ArgumentError, ArtifactError
from ..flow.building import InverseLike, inverse_of
from ..flow.kinds import certified, for_weights, kind_of
from ..flow.protocol import Flow
from ..flow.structure import Structure
from ..integrated.flow import CompletedFlow
from ..integrated.target import IntegratedModel
from ..marginal.target import FlowTarget, target_of
from ..model.layout import Layout
from ..model.model import Model
from .artifact_checks import check_claims
from .artifact_files import GOLDEN, WEIGHTS, load_golden, load_tensors
from .folders import write_folder
from .golden_values import GoldenValues
from .json_values import json_bytes
from .manifest import (
    FlowEntry,
    InverseEntry,
    Manifest,
    SolverEntry,
    TrainingEntry,
)
from .manifest_file import MANIFEST, load_manifest, manifest_bytes
from .model_entry import first_difference, model_entry
from .other_columns import (
    OtherColumns,
    columns_of,
    observed_rows_in,
    structure_in,
)
from .stored_flow import stored_flow
from .structure_entry import (
    heads_entry,
    layout_entry,
    layout_from,
    structure_entry,
    structure_from,
)

__all__ = ["MANIFEST", "Artifact"]

_TOLERANCE = 1e-6
_LIBRARIES = ("daphne-bridge", "torch", "torchdiffeq", "numpy")


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """A flow with all that is needed to use it.

    Attributes:
        manifest: What it is of and how it computes.
        tensors: As written to `weights.safetensors`.
        golden: What the flow gave at a few points.
        source: Folder for messages.
    """

    manifest: Manifest
    tensors: Mapping[str, Tensor]
    golden: GoldenValues
    source: str

    @classmethod
    def from_flow(
        cls,
        flow: Flow,
        graph: Graph,
        layout: Layout,
        *,
        inverse: InverseLike | None = None,
        seed: int,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        without_density: Sequence[str] = (),
        data: Tensor | None = None,
        integrated: Sequence[str] = (),
        tolerance: float = _TOLERANCE,
    ) -> "Artifact":
        """Return the artifact of a trained flow.

        Args:
            flow: In the columns of `layout`.
            graph: Of the model it was trained on.
            layout: Of that graph.
            inverse: The faithful inverse that the flow's structure is of; made if None.
            seed: Of training.
            config: Resolved configuration of training, plain values.
            metrics: What training measured, plain values.
            without_density: Latents whose values came from a file, by the document's
                names.
            data: The one data set that it was refined for, a row of `layout`; None for
                a flow of every data set.
            integrated: Latents that the flow is not of, by the document's names, in
                sampling order; `layout` and `inverse` lack them.
            tolerance: Of the solver that weights use, relative and absolute.

        Raises:
            ArtifactError: If a number of the flow is not finite.
        """
        inverse = inverse or inverse_of(graph, layout)
        structure = structure_entry(flow.structure, layout)
        manifest = Manifest(
            model=model_entry(graph, without_density),
            layout=layout_entry(graph, layout),
            inverse=InverseEntry(
                tuple(inverse.latents),
                {name: tuple(inverse.parents[name]) for name in inverse.latents},
            ),
            structure=structure,
            flow=FlowEntry(flow.kind, asdict(flow.config)),
            normalisation=structure.normalisation,
            solver=(
                SolverEntry("dopri5", tolerance, "float64")
                if kind_of(flow.kind).certified
                else None
            ),
            training=TrainingEntry(seed, dict(config), dict(metrics)),
            libraries={
                "python": platform.python_version(),
                **{name: version(name) for name in _LIBRARIES},
            },
            data=() if data is None else tuple(data.tolist()),
            integrated=tuple(integrated),
            heads=heads_entry(flow),
        )
        tensors = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in flow.state_dict().items()
        }
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                what = f"the tensor {name} of this flow has numbers that are not finite"
                raise ArtifactError.at("artifact", what)
        kept = certified(
            _stored(manifest, structure_from(manifest), tensors, "<artifact>"),
            tolerance,
        )
        return cls(
            manifest, tensors, GoldenValues.of_flow(kept, tolerance), "<artifact>"
        )

    def save(self, path: Path | str) -> None:
        """Write the folder, whole or not at all.

        Raises:
            ArtifactError: If something else is in the place, it cannot be written, or a
                number is not finite.
        """
        others = {
            WEIGHTS: safetensors.torch.save(dict(self.tensors)),
            GOLDEN: json_bytes(self.golden.to_json(), GOLDEN),
        }
        text = manifest_bytes(self.manifest, others)
        write_folder(Path(path), {**others, MANIFEST: text}, marker=MANIFEST)

    @classmethod
    def load(cls, path: Path | str) -> "Artifact":
        """Return the artifact in a folder, checked from end to end.

        Raises:
            ArtifactError: If a file is missing, cut or changed, if the format is
                another, or if the flow does not reproduce its golden values.
        """
        folder = Path(path)
        manifest = load_manifest(folder)
        tensors = load_tensors(folder, manifest)
        entry = load_golden(folder, manifest)
        check_claims(manifest, tensors, str(folder / MANIFEST), str(folder / WEIGHTS))
        golden = GoldenValues.from_json(entry, str(folder / GOLDEN))
        artifact = cls(manifest, tensors, golden, str(folder))
        flow = _stored(manifest, artifact._structure(), tensors, str(folder))
        golden.check(certified(flow, artifact.tolerance), str(folder / GOLDEN))
        return artifact

    @property
    def layout(self) -> Layout:
        """The columns in which the flow was trained."""
        return layout_from(self.manifest)

    @property
    def tolerance(self) -> float:
        """Tolerance of the solver that weights use, if the kind has one."""
        solver = self.manifest.solver
        return _TOLERANCE if solver is None else float(solver.tolerance)

    @property
    def without_density(self) -> tuple[str, ...]:
        """Latents whose values came from a file when the flow was trained."""
        return self.manifest.model.without_density

    def flow(self) -> Any:
        """Return the flow in the columns it was trained in, for weights.

        Where latents are integrated out, it is of the others.

        Of any kind, a `flow.protocol.Flow`; what more it can do is its kind's.

        Raises:
            ArtifactError: If the tensors do not fit the architecture.
        """
        return self._flow(self._structure(), self.tensors)

    def flow_for(self, graph: Graph, layout: Layout, *, weighted: bool = True) -> Any:
        """Return the flow in the columns of a graph of the same model, for weights.

        Of any kind, like that of `flow`.

        Args:
            graph: A graph with this model's digest.
            layout: Of that graph.
            weighted: Whether its draws are to be weighted, or its densities compared
                with the model's.

        Raises:
            ArtifactError: If the graph is of another model; the message names the
                first difference. If a latent has no density, and weights are wanted.
        """
        model = self.manifest.model
        if weighted and model.without_density:
            raise self._without_weights()
        self._check_model(graph)
        columns = self._columns(graph, layout)
        structure = structure_in(columns, self._structure())
        tensors = observed_rows_in(columns, self.tensors)
        flow = self._flow(structure, tensors)
        if not self.manifest.integrated:
            return flow
        names = tuple(columns.names[name] for name in self.manifest.integrated)
        return CompletedFlow(flow, IntegratedModel(Model.from_graph(graph), names))

    def target_for(self, model: Model) -> FlowTarget:
        """Return what the flow is of: a model, discrete latents summed out.

        Those with a head stay.

        Args:
            model: Of a graph with this model's digest.

        Raises:
            ArtifactError: If the graph is of another model.
        """
        self._check_model(model.graph)
        names = self._names(model.graph)
        heads = {names[name] for name in self.heads}
        order = [name for name in model.graph.latents if name in heads]
        return target_of(model, sampled=tuple(order))

    @property
    def heads(self) -> tuple[str, ...]:
        """Discrete latents that have a head, by the names in training."""
        latents, heads = self.manifest.structure.latents, self.manifest.heads
        return () if heads is None else latents[len(latents) - len(heads.cells) :]

    def data_for(self, graph: Graph, layout: Layout) -> Tensor | None:
        """Return the data that the flow was refined for in the columns of a graph.

        None if it is a flow of every data set.

        Args:
            graph: A graph with this model's digest.
            layout: Of that graph.
        """
        if not self.manifest.data:
            return None
        row = torch.empty(len(self.manifest.data), dtype=torch.float64)
        place = torch.tensor(self._columns(graph, layout).observed)
        row[place] = torch.tensor(self.manifest.data, dtype=torch.float64)
        return row

    def _check_model(self, graph: Graph) -> None:
        model = self.manifest.model
        if graph.digest != model.digest:
            raise ArtifactError.at(
                self.source,
                f"this artifact is of another model than {graph.source}: "
                + first_difference(model, graph),
                "the same program; inputs are part of it unless they are observed",
            )

    def _columns(self, graph: Graph, layout: Layout) -> OtherColumns:
        names = self._names(graph)
        kept = layout.without([names[name] for name in self.manifest.integrated])
        return columns_of(self.layout, kept, names)

    def _names(self, graph: Graph) -> Mapping[str, str]:
        """The names that nodes have in a graph of the same model."""
        order = self.manifest.model.order
        return dict(zip(order, graph.canonical.order, strict=True))

    def _flow(self, structure: Structure, tensors: Mapping[str, Tensor]) -> Flow:
        flow = _stored(self.manifest, structure, tensors, self.source)
        return for_weights(flow, self.tolerance)

    def _without_weights(self) -> ArtifactError:
        model = self.manifest.model
        labels = {node.name: node.label for node in model.nodes}
        shown = ", ".join(labels[name] for name in model.without_density[:3])
        more = ", ..." if len(model.without_density) > 3 else ""
        return ArtifactError.at(
            self.source,
            f"latents of this flow have no density ({shown}{more}), as their "
            "values came from a file; so its draws have no weights, and J no value",
            "`daphne-flows sample --unweighted`",
        )

    def _structure(self) -> Structure:
        try:
            return structure_from(self.manifest)
        except ArgumentError as error:
            where = f"{Path(self.source) / MANIFEST}: $.structure"
            raise ArtifactError(
                *(
                    replace(each, where=f"{where}: {each.where}"[:300])
                    for each in error.problems
                )
            ) from None


def _stored(
    manifest: Manifest, structure: Structure, tensors: Mapping[str, Tensor], source: str
) -> Flow:
    folder = Path(source)
    places = {"manifest": folder / MANIFEST, "weights": folder / WEIGHTS}
    return stored_flow(manifest.flow, manifest.heads, structure, tensors, **places)
