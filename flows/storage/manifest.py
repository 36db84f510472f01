"""This file says what the manifest of an artifact holds.

`manifest.schema.json` says the same of its JSON, with limits of each value; a manifest
is checked against it before it becomes one of these values. Artifacts of the versions 1
and 2 are read as what they would be in version 3 (`earlier_manifests.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..flow.blocks import Factor
from ..flow.potentials import Potential
from ..heads.cells import Cells
from .json_values import from_json, to_json

__all__ = [
    "AFFINE",
    "FACTORS",
    "FORMAT",
    "POTENTIALS",
    "VERSION",
    "FileEntry",
    "FlowEntry",
    "HeadsEntry",
    "InverseEntry",
    "LayoutEntry",
    "Manifest",
    "ModelEntry",
    "NodeEntry",
    "SolverEntry",
    "StructureEntry",
    "TrainingEntry",
    "VariableEntry",
]

FORMAT = "daphne-flows artifact"
VERSION = 3
AFFINE = "shift and scale, then affine along the inverse"
FACTORS = "shift and scale, then the posterior of factors linear in the latents"
POTENTIALS = "shift and scale, then a product of Gaussian potentials"

_STANDARD_NORMAL = "standard normal"


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A node of the model, for messages.

    Attributes:
        name: In the document.
        label: The program's own name, or `name`.
        observed: Whether it is observed.
        link: Its link function for people, cut at 200 characters.
        shape: Digest of the link function, parents by position.
        parents: Names.
    """

    name: str
    label: str
    observed: bool
    link: str
    shape: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """The model: its digest without names, numbering and data, and its nodes.

    `order` holds their names in canonical order. Latents `without_density` had values
    from a file in training.
    """

    digest: str
    order: tuple[str, ...]
    nodes: tuple[NodeEntry, ...]
    without_density: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VariableEntry:
    """The columns of a node, as in `model.layout.Variable`.

    Attributes:
        name: In the document.
        label: The program's own name, or `name`.
        shape: Of one value.
        start: First column among the natural values.
        stop: One past the last.
        free_start: First column among the free coordinates.
        free_stop: One past the last.
        support: Where a latent has mass, if all its families agree.
        bounds: Of an interval, where they are constants.
    """

    name: str
    label: str
    shape: tuple[int, ...]
    start: int
    stop: int
    free_start: int
    free_stop: int
    support: str | None = None
    bounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LayoutEntry:
    """The columns of all nodes, in the order of the graph."""

    latents: tuple[VariableEntry, ...]
    observed: tuple[VariableEntry, ...]


@dataclass(frozen=True, slots=True)
class InverseEntry:
    """The faithful inverse: latents in sampling order, parents by name."""

    latents: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class StructureEntry:
    """What the flow reads: the inverse, with ancestors added where that pays.

    Attributes:
        latents: Names in sampling order.
        parents: What each latent's block reads, by name.
        nuisances: Number of nuisance columns of each latent, in sampling order.
        factors: For the second kind of normalisation.
        potentials: For the third.
    """

    latents: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]
    nuisances: tuple[int, ...]
    factors: tuple[Factor, ...] = ()
    potentials: tuple[Potential, ...] = ()

    @property
    def normalisation(self) -> str:
        """The kind that belongs to it: `AFFINE`, `FACTORS` or `POTENTIALS`."""
        if self.potentials:
            return POTENTIALS
        return FACTORS if self.factors else AFFINE


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """The kind of flow, and the settings that this kind has."""

    kind: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeadsEntry:
    """Heads of the discrete latents that a flow is of.

    Attributes:
        config: Settings of the networks.
        cells: Of the last latents of the structure, in sampling order.
    """

    config: Mapping[str, Any]
    cells: tuple[Cells, ...]


@dataclass(frozen=True, slots=True)
class SolverEntry:
    """How the golden values and weights are computed; tolerance absolute, relative."""

    method: str
    tolerance: float
    precision: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Another file's length and SHA-256."""

    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class TrainingEntry:
    """What training was told and what it measured, plain values."""

    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact is of and how it computes.

    Attributes:
        model: The model.
        layout: The columns in which the flow was trained.
        solver: For weights; None where nothing is solved.
        inverse: Of the model; None in versions 1 and 2, which did not say it.
        structure: What the flow reads.
        flow: Its kind and shape.
        normalisation: That of `structure`.
        training: How it came into being.
        libraries: Versions by name.
        files: The other files by name; empty until the artifact is saved.
        checksum: Of the manifest; empty until the artifact is saved.
        data: The one data set that the flow was refined for, in the observed columns;
            empty for a flow of every data set.
        integrated: Latents that the flow is not of, as they are drawn given the
            others (`integrated/`), in sampling order.
        heads: Of the discrete latents among those of the layout; None without any.
        base: Where the flow starts.
        nuisance_reference: Target of the nuisances.
        version: Of the format.
        format: Says that this is such a manifest.
    """

    model: ModelEntry
    layout: LayoutEntry
    structure: StructureEntry
    flow: FlowEntry
    normalisation: str
    training: TrainingEntry
    libraries: Mapping[str, str]
    solver: SolverEntry | None = None
    inverse: InverseEntry | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    checksum: str = ""
    data: tuple[float, ...] = ()
    integrated: tuple[str, ...] = ()
    heads: HeadsEntry | None = None
    base: str = _STANDARD_NORMAL
    nuisance_reference: str = _STANDARD_NORMAL
    version: int = VERSION
    format: str = FORMAT

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Manifest":
        """Return the manifest of an entry that the schema allows."""
        return from_json(cls, entry)  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return to_json(self)  # type: ignore[no-any-return]
