r"""This file is a model with its discrete latents summed out.

    log p(c, x) = logsumexp over d of Σ_v T_v(d; c, x),       p(d | c, x) by its draws,

with c the continuous latents. It has the same methods as `Model` over c alone, so that
flows, proposals and samplers use it as they use a model; `complete` adds exact draws
of the discrete latents to rows of c. Weights p(c, x) / q(c | x) are those of the full
model averaged over d: the discrete part adds no variance (Rao and Blackwell).

Where the free coordinates of c depend on a discrete latent, they cover the union of the
supports: outside the support of a configuration its density is 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from daphne_bridge.graph.expression import (
    Call,
    Expression,
    ExpressionTable,
    Value,
    free_names,
)
from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.graph.nodes import families_of
from daphne_bridge.language.primitives import equal

from ..errors import ModelError, Problem
from ..model.coordinates import Coordinates
from ..model.draws import Draws
from ..model.in_free_coordinates import InFreeCoordinates
from ..model.layout import Layout
from ..model.model import Model
from ..model.schedule import Schedule
from ..model.shapes import (
    LatentRows,
    Latents,
    LogDensity,
    Observed,
    ObservedRow,
)
from .elimination import Elimination
from .tables import DiscreteTables, UnboundedError, discrete_tables

__all__ = ["CollapsedModel", "collapse"]


_CUT_DRAWS = 4096
_CUT_FACTOR = 2
_CUT_MARGIN = 30


def collapse(model: Model, *, widen: int = 1) -> "CollapsedModel":
    """Return a model with its discrete latents summed out.

    A latent with infinitely many values is cut off where nothing is left; where its
    parameters depend on continuous latents, well beyond what the prior draws, and
    `left_out` says what that leaves out.

    Args:
        model: With at least one discrete latent.
        widen: Factor on cuts: on those taken from draws, and on the log of the mass
            that the others leave out.

    Raises:
        ModelError: If a discrete latent has infinitely many values and parameters that
            are not known, or the discrete latents depend on each other too widely.
    """
    cuts: dict[str, int] = {}
    while True:
        try:
            return CollapsedModel(
                model, discrete_tables(model.graph, cuts=cuts, widen=widen)
            )
        except UnboundedError as error:
            drawn = model.forgiving().sample_latents(
                _CUT_DRAWS, generator=torch.Generator().manual_seed(0)
            )
            column = drawn[:, model.layout.variable(error.name).start]
            largest = float(column[~torch.isnan(column)].max())
            cuts[error.name] = widen * (_CUT_FACTOR * int(largest) + _CUT_MARGIN)


@dataclass(frozen=True, eq=False)
class CollapsedModel(InFreeCoordinates):
    """The density p(continuous latents, observed) of a model with discrete latents.

    Attributes:
        model: The model whose discrete latents are summed out.
        tables: Its density as tables over them.
        is_forgiving: Whether a row without meaning is impossible, no error.
    """

    model: Model
    tables: DiscreteTables
    is_forgiving: bool = False

    def forgiving(self) -> "CollapsedModel":
        """Return the model for which rows without meaning are impossible, no error.

        See `Model.forgiving`.
        """
        return replace(self, model=self.model.forgiving(), is_forgiving=True)

    def has_meaning(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Bool[Tensor, " row"]:
        """Return where every link function that matters has a meaning."""
        entries = self._entries(latents, observed, latents.shape[:1])
        _, matters = self._log_sum(self.tables.elimination, entries, len(latents))
        return ~(matters | torch.isnan(latents).any(-1))

    # -------------------------------------------------------------- what it is of

    @property
    def graph(self) -> Graph:
        """The graph of the model, discrete latents included."""
        return self.model.graph

    @property
    def dtype(self) -> torch.dtype:
        """Type of draws and of the observation."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Device of draws and of the observation."""
        return self.model.device

    @property
    def has_density(self) -> bool:
        """True: the discrete latents are summed out exactly."""
        return True

    @cached_property
    def layout(self) -> Layout:
        """Columns of the continuous latents, and of the observed nodes."""
        return Layout(self._covered.layout.latents, self.model.layout.observed)

    @property
    def coordinates(self) -> Coordinates:
        """Maps the continuous latents to the real line and back."""
        return self._covered.coordinates

    @cached_property
    def _covered(self) -> Model:
        """The continuous latents with supports that cover every configuration."""
        nodes = [
            self._covering(node) for node in self.graph.nodes if self._is_kept(node)
        ]
        graph = Graph(tuple(nodes), source=self.graph.source)
        return Model.from_graph(graph, dtype=self.dtype, device=self.device)

    def _is_kept(self, node: Node) -> bool:
        return not node.is_observed and node.name not in self.tables.values

    def _covering(self, node: Node) -> Node:
        """Return a latent whose distribution has the union of its supports."""
        forms = self.tables.lowered[node.name]
        found = _covering([form.node.distribution for form in forms], forms[0].shape)
        return replace(node, distribution=found, parents=free_names(found))

    # -------------------------------------------------------------- densities

    @cached_property
    def _sources(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        dag = self.tables.dag
        latents, observed = (
            tuple(
                dag.variable((variable.name, position))
                for variable in variables
                for position in range(variable.size)
            )
            for variables in (self.layout.latents, self.layout.observed)
        )
        return latents, observed

    @cached_property
    def _schedule(self) -> Schedule:
        return Schedule.of(self.tables.dag, self._sources, [self.tables.slots])

    def log_joint(self, latents: Latents, observed: Observed) -> LogDensity:
        """Return log p(latents, observed) in nats, discrete latents summed out.

        Args:
            latents: Natural values of the continuous latents.
            observed: Observed values; one row may serve all latents.

        Raises:
            ModelError: If a distribution has a parameter without meaning at a
                configuration that is possible.
        """
        return self._density(self.tables.elimination, latents, observed)

    def log_prior(
        self, latents: Latents, observed: Observed | None = None
    ) -> LogDensity:
        """Return log p(latents), discrete latents summed out.

        Args:
            latents: Natural values of the continuous latents.
            observed: Data, which matters only where latents read observed nodes.
        """
        if observed is None:
            observed = self.model.observation(like=latents)
        return self._density(
            self._prior_elimination, latents, observed, without_meaning=0.0
        )

    def log_likelihood_terms(
        self, latents: Latents, observed: Observed
    ) -> Float[Tensor, "*batch3 1"]:
        """Return the log likelihood as one term: observes share summed-out latents."""
        found = self.log_joint(latents, observed) - self.log_prior(latents, observed)
        return found.unsqueeze(-1)

    @cached_property
    def _prior_elimination(self) -> Elimination:
        """The tables of the latents alone."""
        names = [node.name for node in self.graph.nodes]
        latents = set(self.graph.latents)
        tables = [
            table
            for name, table in zip(names, self.tables.tables, strict=False)
            if name in latents
        ]
        tables += self.tables.tables[len(names) :]
        cardinalities = self.tables.elimination.cardinalities
        return Elimination(cardinalities, tables, num_blocks=2)

    def _density(
        self,
        elimination: Elimination,
        latents: Tensor,
        observed: Tensor,
        *,
        without_meaning: float = -math.inf,
    ) -> Tensor:
        """Return the sum of tables; if forgiving a number for rows without meaning.

        Without continuous latents there is one row: what has no meaning in it are
        values of discrete latents, and these alone weigh nothing.
        """
        batch = torch.broadcast_shapes(  # type: ignore[no-untyped-call]
            latents.shape[:-1], observed.shape[:-1]
        )
        entries = self._entries(latents, observed, batch)
        found, matters = self._log_sum(elimination, entries, math.prod(batch))
        if self.is_forgiving:
            is_nan = torch.isnan(latents).any(-1).expand(batch).reshape(-1)
            if latents.shape[-1]:
                found = torch.where(matters | is_nan, without_meaning, found)
            return found.reshape(batch)
        if bool(matters.any()):
            row = int(torch.nonzero(matters)[0])
            raise ModelError(
                Problem(
                    self.graph.source,
                    f"a distribution has a parameter without meaning at row {row}, at "
                    "values of the discrete latents that are possible",
                )
            )
        is_unknown = torch.isnan(latents).any(-1) | torch.isnan(observed).any(-1)
        return torch.where(is_unknown, math.nan, found.reshape(batch))

    def _entries(
        self, latents: Tensor, observed: Tensor, batch: Sequence[int]
    ) -> list[Tensor]:
        """Return the blocks of numbers of all tables, rows of `batch` flat."""
        count = math.prod(batch)
        rows = [
            values.expand(*batch, -1).reshape(count, -1)
            if math.prod(values.shape[:-1]) != 1
            else values.reshape(1, -1)
            for values in (latents, observed)
        ]
        constants = self.tables.constants.to(latents)
        if not self.tables.slots:
            return [constants, constants.new_zeros(0, 1)]
        columns = [values.t().contiguous() for values in rows]
        (found,) = self._schedule.run(columns, num_rows=count, like=latents)
        return [constants, found]

    @staticmethod
    def _log_sum(
        elimination: Elimination, entries: list[Tensor], count: int
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of every row, and where an entry without value matters."""
        clean = [torch.where(torch.isnan(part), -math.inf, part) for part in entries]
        found = elimination.log_sum(clean).expand(count)
        if not any(bool(torch.isnan(part).any()) for part in entries):
            return found, torch.zeros_like(found, dtype=torch.bool)
        other = [torch.where(torch.isnan(part), 0.0, part) for part in entries]
        with torch.no_grad():
            matters = elimination.log_sum(other).expand(count) != found
        return found, matters

    # -------------------------------------------------------------- draws and data

    def sample(
        self, num: int, *, generator: Generator, dtype: torch.dtype | None = None
    ) -> Draws:
        """Return joint draws of the continuous latents and the observed nodes."""
        draws = self.model.sample(num, generator=generator, dtype=dtype)
        return Draws(draws.latents[:, self._kept], draws.observed)

    def sample_latents(
        self,
        num: int,
        *,
        generator: Generator,
        observed: ObservedRow | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "num latent"]:
        """Return draws of the prior of the continuous latents."""
        drawn = self.model.sample_latents(
            num, generator=generator, observed=observed, dtype=dtype
        )
        return drawn[:, self._kept]

    def observation(
        self, values: Mapping[str, Any] | None = None, **options: Any
    ) -> ObservedRow:
        """Return the data as a row: the document's, replaced by `values`."""
        return self.model.observation(values, **options)

    # -------------------------------------------------------------- discrete latents

    @torch.no_grad()
    def complete(
        self, latents: LatentRows, observed: ObservedRow, *, generator: Generator
    ) -> Float[Tensor, "row full"]:
        """Return rows of all latents: exact draws of the discrete ones added.

        Args:
            latents: Natural values of the continuous latents.
            observed: Observed values.
            generator: Source of the draws.
        """
        num = latents.shape[0]
        entries = self.entries(latents, observed)
        drawn = self.tables.elimination.sample(entries, num, generator=generator)
        names = self.tables.discrete
        full = self.coded(names, drawn[: len(names)]).to(latents)
        full[:, self._kept] = latents
        return full

    def coded(
        self, names: Sequence[str], places: Int[Tensor, "name row"]
    ) -> Float[Tensor, "row full"]:
        """Return rows of all latents with the values of some discrete ones.

        Args:
            names: Names of discrete latents.
            places: Which of `tables.values` each of them has.
        """
        full = torch.zeros(
            places.shape[1], self.model.layout.latent_dim, dtype=torch.float64
        )
        for name, row in zip(names, places, strict=True):
            full[:, self.model.layout.variable(name).start] = self._codes[name][row]
        return full

    def entries(self, latents: LatentRows, observed: ObservedRow) -> list[Tensor]:
        """Return the blocks of numbers of all tables; what has no value is -inf."""
        found = self._entries(latents, observed, latents.shape[:1])
        return [torch.where(torch.isnan(part), -math.inf, part) for part in found]

    def marginals(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Mapping[str, Float[Tensor, "value row"]]:
        """Return p(value | latents, observed) of every value of a discrete latent."""
        found = self.tables.elimination.marginals(self.entries(latents, observed))
        return dict(zip(self.tables.discrete, found, strict=False))

    def left_out(
        self, latents: LatentRows, observed: ObservedRow
    ) -> Float[Tensor, " row"]:
        """Return the prior mass beyond the cuts, the largest over truncated latents."""
        entries = self.entries(latents, observed)
        worst = latents.new_zeros(len(latents))
        for name in self.tables.truncated:
            table = self.tables.tables[self._positions[name]]
            places = torch.from_numpy(
                table.entries.reshape(-1, table.entries.shape[-1])
            )
            kept = entries[table.block][places].logsumexp(1).exp()
            worst = torch.maximum(worst, (1.0 - kept).amax(0).clamp_min(0.0))
        return worst

    @cached_property
    def _positions(self) -> Mapping[str, int]:
        return {node.name: place for place, node in enumerate(self.graph.nodes)}

    @cached_property
    def _kept(self) -> Tensor:
        return torch.tensor(
            [
                column
                for variable in self.model.layout.latents
                if variable.name not in self.tables.values
                for column in range(variable.start, variable.stop)
            ],
            dtype=torch.long,
        )

    @cached_property
    def _codes(self) -> Mapping[str, Tensor]:
        """How the columns of the full model write the values of a discrete latent."""
        return {
            name: torch.tensor(
                [_code(value, self.model.categories(name)) for value in values],
                dtype=torch.float64,
            )
            for name, values in self.tables.values.items()
        }


def _code(value: Value, categories: tuple[Value, ...]) -> float:
    if not categories:
        return float(value)
    return float(next(i for i, c in enumerate(categories) if equal(c, value)))


def _covering(
    distributions: Sequence[Expression], shape: tuple[int, ...]
) -> Expression:
    """Return a distribution whose support is the union of those of others."""
    families = {f.name: f for d in distributions for f in families_of(d)}
    supports = {family.support for family in families.values()}
    calls = [d for d in distributions if isinstance(d, Call) and d.head in families]
    if supports == {"interval"} and len(calls) == len(distributions):
        low, high = zip(*(call.arguments[-2:] for call in calls), strict=True)
        return Call("uniform-continuous", (_extreme("min", low), _extreme("max", high)))
    if len(supports) > 1 or "interval" in supports:
        has_zero = supports <= {"positive", "nonnegative", "unit interval"}
        supports = {"positive" if has_zero else "real"}
    return _standard(supports.pop(), shape)


def _standard(support: str, shape: tuple[int, ...]) -> Expression:
    """Return some distribution with this support."""
    table = ExpressionTable()
    size = shape[0] if shape else 0
    ones, zeros = (1.0,) * size, (0.0,) * size
    identity = tuple(
        tuple(float(row == column) for column in range(size)) for row in range(size)
    )
    standard: Mapping[str, tuple[str, Sequence[Value]]] = {
        "real": ("normal", (0.0, 1.0)),
        "positive": ("gamma", (1.0, 1.0)),
        "nonnegative": ("exponential", (1.0,)),
        "unit interval": ("beta", (1.0, 1.0)),
        "simplex": ("dirichlet", (ones,)),
        "real vector": ("mvn", (zeros, identity)),
        "positive definite matrix": ("wishart", (float(size), identity)),
    }
    head, parameters = standard[support]
    return table.call(head, [table.constant(value) for value in parameters])


def _extreme(name: str, bounds: Sequence[Expression]) -> Expression:
    different = tuple({id(bound): bound for bound in bounds}.values())
    return different[0] if len(different) == 1 else Call(name, different)
