"""This file owns the target p(latents, observed) of a program: what a user calls.

    log_joint(z, x) = log_prior(z) + log_likelihood(z, x)
    log_prior(z) = Σ over latents of log p(z_i | parents)
    log_likelihood(z, x) = Σ over observed nodes of log p(x_j | parents)

An observe under `if` counts where its condition is true and contributes 0 elsewhere.
Rows are independent: a row's value does not depend on the other rows. Latents outside
the support of their distribution are legal, their density is 0 (log density -inf) even
where a link function has no meaning for them. In the support, a parameter without
meaning (a negative scale) is an error that names the node, the value, and the link
function. A row that holds nan itself gives nan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from daphne_bridge.building import building
from daphne_bridge.compiler import compile_program, parse_data
from daphne_bridge.graph.document import (
    GraphDocument,
    NodeNames,
    load_document,
    load_names,
    read_text,
)
from daphne_bridge.graph.graph import Graph

from ..errors import ArgumentError, ModelError
from .coordinates import Coordinates
from .densities import Densities
from .draw_schedules import DrawSchedules
from .explanations import constant_problems
from .in_free_coordinates import InFreeCoordinates
from .layout import Layout
from .lowered_graph import LoweredGraph
from .observation import Given
from .observed_row import document_problems, observed_row
from .sampling import Drawing
from .schedule import Schedule
from .shapes import (
    LatentRows,
    Latents,
    LogDensity,
    LogTerms,
    Observed,
    ObservedRow,
)

__all__ = ["Model"]


@final
@dataclass(frozen=True, eq=False)
class Model(InFreeCoordinates, Drawing):
    """The density p(latents, observed) of a graph, in torch.

    Made by `compile`, `load`, `from_program` or `from_graph`. It never changes; what is
    computed on first use is kept. Densities raise a `ModelError` if a distribution has
    a parameter without meaning.

    Attributes:
        lowered: The graph as operations on scalar slots.
        densities: Evaluates them.
        coordinates: Maps latents to the real line and back.
        draw_schedules: What draws nodes.
        dtype: Type of draws and of the observation unless another is asked for;
            densities are computed in the type of the latents.
        device: Device of draws and of the observation.
        is_forgiving: Whether rows without meaning are impossible, not an error.

    Example:
        >>> text = "(let [a (sample (normal 0 1))] (observe (normal a 1) 2.0) a)"
        >>> model = Model.from_program(text)
        >>> draws = model.sample(5, generator=torch.Generator().manual_seed(0))
        >>> model.log_joint(draws.latents, model.observation()).shape
        torch.Size([5])
    """

    lowered: LoweredGraph
    densities: Densities
    coordinates: Coordinates
    draw_schedules: DrawSchedules
    dtype: torch.dtype
    device: torch.device
    is_forgiving: bool = False

    def __repr__(self) -> str:
        """Return one line: where it is from, and how large it is."""
        latents, observed = len(self.graph.latents), len(self.graph.observed)
        return f"<Model {self.graph.source}: {latents} latent, {observed} observed>"

    # -------------------------------------------------------------- constructors

    @classmethod
    def compile(
        cls,
        program: str | PathLike[str],
        *,
        data: str | PathLike[str] | Mapping[str, Any] | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> "Model":
        """Return the model of a program in a file, compiled by the bridge.

        Args:
            program: The file.
            data: Values for names that the program uses freely: a JSON object or CSV
                table in a file, or JSON values by name.
            dtype: Type of draws and of the observation.
            device: Where draws are made.

        Raises:
            DocumentError: If a file cannot be read.
            ReadError: If the data are no data, or as `from_program`.
            CompileError: As `from_program`.
            ModelError: As `from_graph`.
        """
        text = read_text(Path(program), "a program")
        if data is not None and not isinstance(data, Mapping):
            data = parse_data(read_text(Path(data), "data"), str(data))
        return cls.from_program(text, str(program), data, dtype=dtype, device=device)

    @classmethod
    def from_program(
        cls,
        text: str,
        name: str = "program",
        data: Mapping[str, Any] | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> "Model":
        """Return the model of a program's text, compiled by the bridge.

        Args:
            text: The program.
            name: What messages call it.
            data: JSON values for names that the program uses freely.
            dtype: Type of draws and of the observation.
            device: Where draws are made.

        Raises:
            ReadError: If the text is not a sequence of forms.
            CompileError: If the forms do not describe a graphical model.
            ModelError: As `from_graph`.
        """
        compiled = compile_program(text, name, data)
        document = GraphDocument.from_triple(compiled.document, name)
        names = NodeNames(compiled.labels, compiled.positions)
        graph = Graph.from_document(document, names)
        return cls.from_graph(graph, dtype=dtype, device=device)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> "Model":
        """Return the model of a graph document in a file.

        Args:
            path: The document; the program's own names are read from the file beside
                it, if there is one.
            dtype: Type of draws and of the observation.
            device: Where draws are made.

        Raises:
            DocumentError: If the file cannot be read or is no graph document.
            GraphError: With every problem of the graph.
            ModelError: As `from_graph`.
        """
        document = load_document(path)
        names, _ = load_names(document, path)
        graph = Graph.from_document(document, names)
        return cls.from_graph(graph, dtype=dtype, device=device)

    @classmethod
    @building()
    def from_graph(
        cls,
        graph: Graph,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> "Model":
        """Return the model of a graph.

        Args:
            graph: A checked graph.
            dtype: Type of draws and of the observation.
            device: Where draws are made.

        Raises:
            ModelError: With every link function that has no meaning, every parameter
                that is never valid, and every observation that does not fit.
        """
        lowered = LoweredGraph.from_graph(graph)
        problems = [*constant_problems(lowered), *document_problems(lowered)]
        if problems:
            raise ModelError(*problems)
        return cls(
            lowered,
            Densities(lowered),
            Coordinates(lowered),
            DrawSchedules(lowered),
            dtype,
            torch.device(device),
        )

    def forgiving(self) -> "Model":
        """Return the model for which rows without meaning are impossible, no error.

        Where a link function has no meaning (a negative scale), draws are nan; the
        density of such a row is 0, and its density under the prior is taken to be 1, so
        that the draw counts with weight 0. `has_meaning` tells these rows apart.
        """
        return replace(self, is_forgiving=True)

    def standardised(self) -> "Model":
        """Return the model with latents measured from their locations in their scales.

        Only its free coordinates are others. Where data say little of a latent, these
        depend less on each other.
        """
        return replace(self, coordinates=self.coordinates.standardised())

    # -------------------------------------------------------------- what it is of

    @property
    def graph(self) -> Graph:
        """The graph it comes from."""
        return self.lowered.graph

    @property
    def layout(self) -> Layout:
        """Columns of the latents and of the observed nodes."""
        return self.lowered.layout

    @property
    def has_density(self) -> bool:
        """True: every latent has the density that the program states."""
        return True

    def categories(self, name: str) -> tuple[Any, ...]:
        """Return what the indices of a categorical node stand for; else nothing."""
        return self.lowered.nodes[name].categories

    def has_meaning(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Bool[Tensor, " row"]:
        """Return where every link function has a meaning, or the prior no mass."""
        return self.densities.has_meaning(latents, observed)

    # -------------------------------------------------------------- densities

    def log_joint(self, latents: Latents, observed: Observed) -> LogDensity:
        """Return log p(latents, observed) in nats.

        Args:
            latents: Natural values.
            observed: Observed values; one row may serve all latents.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self._evaluated(self.densities.joint, latents, observed)

    def log_prior(
        self, latents: Latents, observed: Observed | None = None
    ) -> LogDensity:
        """Return Σ over latents of log p(z_i | parents).

        Args:
            latents: Natural values.
            observed: Data, which matters only where latents read observed nodes; the
                document's by default.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        if observed is None:
            observed = self.observation(like=latents)
        found = self._evaluated(self.densities.prior, latents, observed)
        if self.is_forgiving:
            found = torch.where(torch.isnan(latents).any(-1), 0.0, found)
        return found

    def log_likelihood(self, latents: Latents, observed: Observed) -> LogDensity:
        """Return log p(observed | latents) in nats."""
        return self._evaluated(self.densities.likelihood, latents, observed)

    def log_likelihood_terms(self, latents: Latents, observed: Observed) -> LogTerms:
        """Return the log likelihood of every observed node, in the layout's order."""
        return self._evaluated(self.densities.likelihood_terms, latents, observed)

    def log_prior_terms(self, latents: Latents, observed: Observed) -> LogTerms:
        """Return the log density of every latent given its parents."""
        return self._evaluated(self.densities.prior_terms, latents, observed)

    def log_terms_of(
        self, names: Sequence[str], latents: Latents, observed: Observed
    ) -> LogTerms:
        """Return the log densities of some nodes given their parents, as named."""
        return self._evaluated(self.densities.terms_of(names), latents, observed)

    def log_likelihood_of(
        self, names: Sequence[str], latents: LatentRows, observed: ObservedRow
    ) -> Float[Tensor, "row node"]:
        """Return the log likelihood of some observed nodes, in the order of `names`.

        Only their parents among the latents are read; these must lie in their supports.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self.densities.likelihood_of(names, latents, observed)

    def _evaluated(
        self, schedule: Schedule, latents: Tensor, observed: Tensor
    ) -> Tensor:
        return self.densities.evaluate(
            schedule, latents, observed, is_forgiving=self.is_forgiving
        )

    # -------------------------------------------------------------- data

    def observation(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        places: Mapping[str, str] | None = None,
        like: Tensor | None = None,
    ) -> ObservedRow:
        """Return the data as a row: the document's, replaced by `values`.

        Args:
            values: Other data by document's or program's own name of a node: numbers,
                booleans, words, lists, or arrays and scalars of numpy and torch.
            places: Where each of them comes from, for messages; the document if None.
            like: A tensor of the wanted type and device; the model's by default.

        Raises:
            ModelError: If a value does not fit its distribution, or a name is not
                known or that of no observed node.
        """
        if not isinstance(values, Mapping | None):
            raise ArgumentError.at(
                "observed", "not data", "values by name of a node", repr(values)[:60]
            )
        numbers = observed_row(self.lowered, Given(values or {}, places or {}))
        if like is not None:
            return like.new_tensor(numbers)
        return torch.tensor(numbers, dtype=self.dtype, device=self.device)
