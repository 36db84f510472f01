"""This file owns the target p(latents, observed): densities, draws, free coordinates.

    log_joint(z, x) = log_prior(z) + log_likelihood(z, x)
    log_prior(z) = Σ over latents of log p(z_i | parents)
    log_likelihood(z, x) = Σ over observed nodes of log p(x_j | parents)

An observe under `if` counts where its condition is true and contributes 0 elsewhere.
Rows are independent: a row's value does not depend on the other rows. Latents outside
the support of their distribution are legal, their density is 0 (log density -inf) even
where a link function has no meaning for them. In the support, a parameter without
meaning (a negative scale) is an error that names the node, the value, and the link
function. A row that holds nan itself gives nan.

In free coordinates f, with z = constrain(f):

    log_joint_free(f, x) = log_joint(z, x) + log|det dz/df|
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from daphne_bridge.errors import GraphError, Problem
from daphne_bridge.graph.expression import show
from daphne_bridge.graph.graph import Graph
from daphne_bridge.language.families import FAMILIES

from ..errors import ModelError
from .dag import Dag
from .draws import Draws
from .families import DENSITIES, Shape
from .layout import Layout, Variable
from .lowering import Branch, Lowered, lower_graph, place
from .observation import Misfit, encode
from .schedule import Definition, InvalidDraw, Job, Plan
from .support import BIJECTIONS

__all__ = ["Capabilities", "Model", "capabilities"]

_SHOWN = 80

_REAL = ("real", "real vector")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What can be done with a graph.

    Attributes:
        continuous_latents: Labels of the latents with a density.
        discrete_latents: Labels of the latents with a mass function.
        observed: Labels of the observed nodes.
    """

    continuous_latents: tuple[str, ...]
    discrete_latents: tuple[str, ...]
    observed: tuple[str, ...]

    @property
    def has_free_coordinates(self) -> bool:
        """Whether every latent can be mapped to the real line, as flows need."""
        return not self.discrete_latents and bool(self.continuous_latents)

    @property
    def sentence(self) -> str:
        """What a flow can do with the model, in one sentence."""
        if not self.continuous_latents and not self.discrete_latents:
            return "The model has no latents: there is nothing to infer."
        if self.discrete_latents:
            return (
                "A flow cannot be trained for this model: "
                f"{_listed(self.discrete_latents)} "
                f"{'is' if len(self.discrete_latents) == 1 else 'are'} discrete; "
                "densities, draws and the prior as proposal work."
            )
        if not self.observed:
            return "A flow cannot be trained for this model: it observes nothing."
        return f"All latents are continuous: {_listed(self.continuous_latents)}."


def capabilities(graph: Graph) -> Capabilities:
    """Return what can be done with a graph, from its families alone."""
    discrete = {node.name for node in graph.nodes if node.is_discrete}
    labels = graph.labels
    return Capabilities(
        tuple(labels[name] for name in graph.latents if name not in discrete),
        tuple(labels[name] for name in graph.latents if name in discrete),
        tuple(labels[name] for name in graph.observed),
    )


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


class Model:
    """The density p(latents, observed) of a graph, in torch.

    Attributes:
        graph: Where it comes from.
        layout: Columns of the latents and of the observed nodes.
        dtype: Type of draws and of the observation unless another is asked for;
            densities are computed in the type of the latents.
        device: Device of draws and of the observation.
    """

    def __init__(
        self,
        graph: Graph,
        dag: Dag,
        lowered: Sequence[Lowered],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.graph = graph
        self.dtype = dtype
        self.device = device
        self._dag = dag
        self._lowered = {entry.node.name: entry for entry in lowered}
        self._latents = [self._lowered[name] for name in graph.latents]
        self._observed = [self._lowered[name] for name in graph.observed]
        self.layout = Layout(
            _variables(self._latents, are_latent=True),
            _variables(self._observed, are_latent=False),
        )
        self._latent_slots = tuple(s for e in self._latents for s in e.slots)
        self._observed_slots = tuple(s for e in self._observed for s in e.slots)
        self._is_forgiving = False
        self._plans_given: dict[tuple[str, ...], Plan] = {}
        self._plans_more: dict[tuple[str, ...], Plan] = {}
        self._plans_likelihood: dict[tuple[str, ...], Plan] = {}
        self._terms = {entry.node.name: entry.term(dag) for entry in lowered}

    @classmethod
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
        dag = Dag()
        lowered = lower_graph(graph, dag)
        problems = _constant_problems(graph, dag, lowered)
        model = cls(graph, dag, lowered, dtype, torch.device(device))
        for entry in model._observed:
            try:
                encode(entry, entry.node.observation, dag)
            except Misfit as problem:
                at = place(graph, "Y", entry.node.name)
                problems.append(_misfit(entry, problem, at))
        if problems:
            raise ModelError(*problems)
        return model

    def forgiving(self) -> "Model":
        """Return the model for which rows without meaning are impossible, no error.

        Where a link function has no meaning (a negative scale), draws are nan; the
        density of such a row is 0, and its density under the prior is taken to be 1, so
        that the draw counts with weight 0. `has_meaning` tells these rows apart.
        """
        twin = copy.copy(self)
        twin._is_forgiving = True
        return twin

    def has_meaning(
        self,
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, " observed"],
    ) -> Bool[Tensor, " row"]:
        """Return where every link function has a meaning, or the prior no mass."""
        z, _ = _columns(latents, self.layout.latent_dim, "latents")
        x, _ = _columns(observed, self.layout.observed_dim, "observed")
        with torch.no_grad():
            (found,) = self._joint_plan.run([z, x], num_rows=len(latents), like=latents)
            bad = torch.isnan(found.expand(len(latents)))
            if not bool(bad.any()):
                return ~bad
            (terms,) = self._prior_terms_plan.run(
                [z, x], num_rows=len(latents), like=latents
            )
        is_impossible = (terms == -math.inf).any(0).expand(len(latents))
        return ~bad | (is_impossible & ~torch.isnan(z).any(0))

    def categories(self, name: str) -> tuple[Any, ...]:
        """Return what the indices of a categorical node stand for; else nothing."""
        return self._lowered[name].categories

    # -------------------------------------------------------------- densities

    @property
    def has_density(self) -> bool:
        """True: every latent has the density that the program states."""
        return True

    def log_joint(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch2 observed"],
    ) -> Float[Tensor, "*batch3"]:
        """Return log p(latents, observed) in nats.

        Args:
            latents: Natural values.
            observed: Observed values; one row may serve all latents.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self._evaluated(self._joint_plan, latents, observed)

    def log_prior(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch2 observed"] | None = None,
    ) -> Float[Tensor, "*batch3"]:
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
        found = self._evaluated(self._prior_plan, latents, observed)
        if self._is_forgiving:
            found = torch.where(torch.isnan(latents).any(-1), 0.0, found)
        return found

    def log_likelihood(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch2 observed"],
    ) -> Float[Tensor, "*batch3"]:
        """Return log p(observed | latents) in nats.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self._evaluated(self._likelihood_plan, latents, observed)

    def log_likelihood_terms(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch2 observed"],
    ) -> Float[Tensor, "*batch3 node"]:
        """Return the log likelihood of every observed node, in the layout's order.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self._evaluated(self._likelihood_terms_plan, latents, observed)

    def log_prior_terms(
        self,
        latents: Float[Tensor, "*batch latent"],
        observed: Float[Tensor, "*batch2 observed"],
    ) -> Float[Tensor, "*batch3 node"]:
        """Return the log density of every latent given its parents.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        return self._evaluated(self._prior_terms_plan, latents, observed)

    def log_joint_free(
        self,
        free: Float[Tensor, "*batch free"],
        observed: Float[Tensor, "*batch2 observed"],
    ) -> Float[Tensor, "*batch3"]:
        """Return the log density of the free coordinates and the data, in nats.

        Raises:
            ModelError: If a latent is discrete, or a parameter has no meaning.
        """
        latents, log_det = self.constrain(free)
        return self.log_joint(latents, observed) + log_det

    def log_likelihood_of(
        self,
        names: Sequence[str],
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, " observed"],
    ) -> Float[Tensor, "row node"]:
        """Return the log likelihood of some observed nodes, in the order of `names`.

        Only their parents among the latents are read; these must lie in their supports.

        Raises:
            ModelError: If a distribution has a parameter without meaning.
        """
        key = tuple(names)
        if key not in self._plans_likelihood:
            terms = tuple(self._terms[name] for name in names)
            self._plans_likelihood[key] = Plan(self._dag, self._given, [terms])
        z, _ = _columns(latents, self.layout.latent_dim, "latents")
        x, _ = _columns(observed, self.layout.observed_dim, "observed")
        count = latents.shape[0]
        (found,) = self._plans_likelihood[key].run([z, x], num_rows=count, like=latents)
        terms_of = found.expand(len(names), count)
        if bool(torch.isnan(terms_of).any()):
            row = int(torch.nonzero(torch.isnan(terms_of).any(0))[0])
            entries = [self._lowered[name] for name in names]
            problems = [p for entry in entries for p in self._values(entry, z, x, row)]
            raise ModelError(*problems) if problems else self._invalid(row)
        return terms_of.t()

    # -------------------------------------------------------------- coordinates

    def constrain(
        self, free: Float[Tensor, "*batch free"]
    ) -> tuple[Float[Tensor, "*batch latent"], Float[Tensor, "*batch"]]:
        """Return the natural values of free coordinates, and log|det dz/df|.

        Raises:
            ModelError: If a latent is discrete.
        """
        self._refuse_discrete()
        rows, batch = _columns(free, self.layout.free_dim, "free")
        if self._all_real:
            return free, free.new_zeros(batch)
        if not math.prod(batch):
            return free.new_zeros(*batch, self.layout.latent_dim), free.new_zeros(batch)
        count = math.prod(batch)
        value, log_det = self._run(self._constrain_plan, [rows], count, free)
        wide = value.expand(value.shape[0], count).t()
        return wide.reshape(*batch, -1), log_det.reshape(batch)

    def constrain_terms(
        self, free: Float[Tensor, "*batch free"]
    ) -> Float[Tensor, "*batch node"]:
        """Return the summands of `constrain`'s log|det dz/df|, one column per latent.

        Raises:
            ModelError: If a latent is discrete.
        """
        self._refuse_discrete()
        rows, batch = _columns(free, self.layout.free_dim, "free")
        count = math.prod(batch)
        terms = free.new_zeros(count, len(self._latents))
        if self._curved and count:
            found = self._run(self._constrain_terms_plan, [rows], count, free)[0]
            terms[:, list(self._curved)] = found.expand(found.shape[0], count).t()
        return terms.reshape(*batch, -1)

    def unconstrain(
        self, latents: Float[Tensor, "*batch latent"]
    ) -> tuple[Float[Tensor, "*batch free"], Float[Tensor, "*batch"]]:
        """Return the free coordinates of natural values, and log|det dz/df|.

        Raises:
            ModelError: If a latent is discrete, or a value outside its support.
        """
        self._refuse_discrete()
        rows, batch = _columns(latents, self.layout.latent_dim, "latents")
        if self._all_real:
            return latents, latents.new_zeros(batch)
        if not math.prod(batch):
            empty = latents.new_zeros(*batch, self.layout.free_dim)
            return empty, latents.new_zeros(batch)
        count = math.prod(batch)
        free, log_det = self._run(self._unconstrain_plan, [rows], count, latents)
        wide = free.expand(free.shape[0], count).t()
        if bool(torch.isnan(wide).any()) and not bool(torch.isnan(latents).any()):
            self._raise_outside(wide, rows.t())
        return wide.reshape(*batch, -1), log_det.reshape(batch)

    # -------------------------------------------------------------- draws and data

    def sample(
        self,
        num: int,
        *,
        generator: Generator,
        dtype: torch.dtype | None = None,
    ) -> Draws:
        """Return joint draws of latents and observed nodes.

        An observe under `if` is drawn whether its condition holds or not.

        Args:
            num: Number of draws.
            generator: Source of randomness, on the model's device.
            dtype: Type of the draws; the model's by default.

        Raises:
            ModelError: If a distribution has a parameter without meaning at some draw.
        """
        plan = self._sample_plan
        latents, observed = self._drawn(plan, num, generator, dtype or self.dtype)
        self._refuse_nan("latent", latents, self.layout.latents)
        self._refuse_nan("observed", observed, self.layout.observed)
        return Draws(latents, observed)

    def sample_latents(
        self,
        num: int,
        *,
        generator: Generator,
        observed: Float[Tensor, " observed"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "num latent"]:
        """Return draws of the latents alone, each given its parents.

        Args:
            num: Number of draws.
            generator: Source of randomness, on the model's device.
            observed: What latents read where they depend on observed nodes; drawn if
                None. Data has no other influence: these are draws of the prior.
            dtype: Type of the draws; the model's by default.

        Raises:
            ModelError: If a distribution has a parameter without meaning at some draw.
        """
        dtype = dtype or self.dtype
        if observed is None:
            plan = self._sample_latents_plan
            (latents,) = self._drawn(plan, num, generator, dtype)
        else:
            given, _ = _columns(observed, self.layout.observed_dim, "observed")
            plan = self._plan_given(self.layout.observed)
            source = given.to(self.device, dtype)
            latents, _ = self._drawn(plan, num, generator, dtype, [source])
        self._refuse_nan("latent", latents, self.layout.latents)
        return latents

    def sample_more(
        self,
        names: Sequence[str],
        latents: Float[Tensor, "row latent"],
        observed: Float[Tensor, " observed"],
        *,
        generator: Generator,
    ) -> Float[Tensor, "row latent"]:
        """Return the rows of latents with some of them drawn, each given its parents.

        Args:
            names: Latents to draw, by the document's name.
            latents: Rows of all latents; only parents of those to draw are read.
            observed: What latents read where they depend on observed nodes.
            generator: Source of randomness, on the model's device.

        Raises:
            ModelError: If a distribution has a parameter without meaning at some draw.
        """
        plan = self._plan_more(tuple(names))
        z, _ = _columns(latents, self.layout.latent_dim, "latents")
        x, _ = _columns(observed, self.layout.observed_dim, "observed")
        num = latents.shape[0]
        (values,) = self._drawn(plan, num, generator, latents.dtype, [z, x])
        variables = [self.layout.variable(name) for name in names]
        columns = [c for v in variables for c in range(v.start, v.stop)]
        drawn = torch.zeros_like(latents)
        drawn[:, columns] = values
        self._refuse_nan("latent", drawn, self.layout.latents)
        more = latents.clone()
        more[:, columns] = values
        return more

    def sample_given(
        self,
        values: Mapping[str, Float[Tensor, "num column"]],
        *,
        generator: Generator,
    ) -> Draws:
        """Return joint draws in which some nodes have given values, one draw per row.

        Every other node is drawn given its parents. If the ancestors of the given nodes
        are given as well, these are draws of p(others | given); otherwise the given
        values act as constants, since nothing flows back to their ancestors.

        Args:
            values: Rows of values by document's or program's own name of a node.
            generator: Source of randomness, on the model's device.

        Raises:
            ValueError: If no node is given, or the shapes do not fit.
            GraphError: If a name is not known.
            ModelError: If a distribution has a parameter without meaning at some draw.
        """
        variables = tuple(
            self.layout.variable(self.graph.resolve(name)) for name in values
        )
        rows = list(values.values())
        shapes = [tuple(part.shape) for part in rows]
        num = shapes[0][0] if shapes and shapes[0] else 0
        expected = [(num, variable.size) for variable in variables]
        if not shapes or shapes != expected:
            raise ValueError(
                f"given values: expected rows of shapes {expected}, as many of each"
                f" node; got {shapes}"
            )
        source = torch.cat(rows, 1).to(self.device).t().contiguous()
        plan = self._plan_given(variables)
        latents, observed = self._drawn(plan, num, generator, source.dtype, [source])
        self._refuse_nan("latent", latents, self.layout.latents)
        self._refuse_nan("observed", observed, self.layout.observed)
        return Draws(latents, observed)

    def _drawn(
        self,
        plan: Plan,
        num: int,
        generator: Generator,
        dtype: torch.dtype,
        sources: Sequence[Tensor] = (),
    ) -> list[Tensor]:
        """Return the plan's outputs as tensors [draw, column]."""
        like = torch.empty(0, dtype=dtype, device=self.device)
        if not num:
            return [like.new_zeros(0, len(slots)) for slots in plan.outputs]
        try:
            with torch.no_grad():
                columns = plan.run(
                    sources,
                    num_rows=num,
                    like=like,
                    generator=generator,
                    forgiving=self._is_forgiving,
                )
        except InvalidDraw as problem:
            raise self._invalid_draw(problem) from None
        return [c.expand(c.shape[0], num).t().contiguous() for c in columns]

    def _refuse_nan(
        self, kind: str, values: Tensor, variables: Sequence[Variable]
    ) -> None:
        if self._is_forgiving or not bool(torch.isnan(values).any()):
            return
        row, column = torch.nonzero(torch.isnan(values))[0].tolist()
        variable = next(v for v in variables if v.start <= column < v.stop)
        raise ModelError(
            Problem(
                place(self.graph, "P", variable.name),
                f"the {kind} {variable.label} has no value at draw {row}",
            )
        )

    def observation(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        places: Mapping[str, str] | None = None,
        like: Tensor | None = None,
    ) -> Float[Tensor, " observed"]:
        """Return the data as a row: the document's, replaced by `values`.

        Args:
            values: Other data by document's or program's own name of a node.
            places: Where each of them comes from, for messages; the document if None.
            like: A tensor of the wanted type and device; the model's by default.

        Raises:
            ModelError: If a value does not fit its distribution.
            GraphError: If a name is not known, or no observed node.
        """
        replaced: dict[str, Any] = {}
        called: dict[str, str] = {}
        where: dict[str, str] = {}
        for name, value in (values or {}).items():
            place_of = (places or {}).get(name, self.graph.source)
            try:
                known = self.graph.resolve(name)
            except GraphError as error:
                problems = (replace(each, where=place_of) for each in error.problems)
                raise GraphError(*problems) from None
            where[known] = (places or {}).get(name, place(self.graph, "Y", known))
            if not self.graph.node(known).is_observed:
                raise ModelError(
                    Problem(
                        place_of,
                        f"{name} is a latent",
                        f"an observed node: {_listed(self.graph.observed)}",
                    )
                )
            if known in called:
                raise ModelError(
                    Problem(
                        place_of,
                        f"{called[known]} and {name} are one node, observed twice",
                        "one value for each node",
                    )
                )
            called[known] = name
            replaced[known] = value
        numbers: list[float] = []
        found: list[Problem] = []
        for entry in self._observed:
            name = entry.node.name
            value = replaced.get(name, entry.node.observation)
            try:
                numbers.extend(encode(entry, value, self._dag))
            except Misfit as problem:
                at = where.get(name, place(self.graph, "Y", name))
                found.append(_misfit(entry, problem, at))
        if found:
            raise ModelError(*found)
        if like is not None:
            return like.new_tensor(numbers)
        return torch.tensor(numbers, dtype=self.dtype, device=self.device)

    # -------------------------------------------------------------- plans

    @cached_property
    def _given(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._latent_slots, self._observed_slots

    def _terms_of(self, entries: Sequence[Lowered]) -> tuple[int, ...]:
        return tuple(self._terms[entry.node.name] for entry in entries)

    @cached_property
    def _joint_plan(self) -> Plan:
        terms = self._terms_of([*self._latents, *self._observed])
        return Plan(self._dag, self._given, [terms], sums=frozenset({0}))

    @cached_property
    def _prior_plan(self) -> Plan:
        terms = self._terms_of(self._latents)
        return Plan(self._dag, self._given, [terms], sums=frozenset({0}))

    @cached_property
    def _likelihood_plan(self) -> Plan:
        terms = self._terms_of(self._observed)
        return Plan(self._dag, self._given, [terms], sums=frozenset({0}))

    @cached_property
    def _prior_terms_plan(self) -> Plan:
        return Plan(self._dag, self._given, [self._terms_of(self._latents)])

    @cached_property
    def _likelihood_terms_plan(self) -> Plan:
        return Plan(self._dag, self._given, [self._terms_of(self._observed)])

    @cached_property
    def _sample_plan(self) -> Plan:
        outputs = [self._latent_slots, self._observed_slots]
        return Plan(self._dag, [], outputs, self._draws)

    @cached_property
    def _sample_latents_plan(self) -> Plan:
        return Plan(self._dag, [], [self._latent_slots], self._draws)

    def _plan_given(self, variables: tuple[Variable, ...]) -> Plan:
        """Return what draws all other nodes; made once for each set of given ones."""
        names = tuple(variable.name for variable in variables)
        if names not in self._plans_given:
            slots = tuple(s for name in names for s in self._lowered[name].slots)
            outputs = [self._latent_slots, self._observed_slots]
            self._plans_given[names] = Plan(self._dag, [slots], outputs, self._draws)
        return self._plans_given[names]

    def _plan_more(self, names: tuple[str, ...]) -> Plan:
        """Return what draws these latents given the others."""
        if names not in self._plans_more:
            drawn = tuple(s for name in names for s in self._lowered[name].slots)
            # A latent that is drawn is not read: no slot has this number.
            read = [-1 if s in drawn else s for s in self._latent_slots]
            sources = [tuple(read), self._observed_slots]
            self._plans_more[names] = Plan(self._dag, sources, [drawn], self._draws)
        return self._plans_more[names]

    @cached_property
    def _draws(self) -> Mapping[int, Definition]:
        """What computes every node's value from its parameters."""
        definitions: dict[int, Definition] = {}
        for entry in self._lowered.values():
            names = [(entry.node.name, b) for b in range(len(entry.branches))]
            for branch, name in zip(entry.branches, names, strict=True):
                outputs = (
                    entry.slots
                    if entry.index is None
                    else tuple(
                        self._dag.variable(("draw", name, position))
                        for position in range(len(entry.slots))
                    )
                )
                key = (branch.family, branch.shapes, entry.index is not None)
                job = Job("draw", key, branch.parameters, outputs, (entry, branch))
                definitions.update(dict.fromkeys(outputs, job))
            if entry.index is not None:
                for position, slot in enumerate(entry.slots):
                    parts = [
                        self._dag.variable(("draw", name, position)) for name in names
                    ]
                    definitions[slot] = entry.select(self._dag, parts)
        return definitions

    @cached_property
    def _constrain_plan(self) -> Plan:
        free, definitions, log_dets = self._coordinates("constrain")
        return Plan(
            self._dag,
            [free],
            [self._latent_slots, log_dets],
            definitions,
            frozenset({1}),
        )

    @cached_property
    def _constrain_terms_plan(self) -> Plan:
        free, definitions, log_dets = self._coordinates("constrain")
        return Plan(self._dag, [free], [log_dets], definitions)

    @cached_property
    def _unconstrain_plan(self) -> Plan:
        free, definitions, log_dets = self._coordinates("unconstrain")
        return Plan(
            self._dag,
            [self._latent_slots],
            [free, log_dets],
            definitions,
            frozenset({1}),
        )

    def _coordinates(
        self, direction: str
    ) -> tuple[tuple[int, ...], dict[int, Definition], tuple[int, ...]]:
        """Return free slots, what computes the other side, and slots of log|det|."""
        free: list[int] = []
        log_dets: list[int] = []
        definitions: dict[int, Definition] = {}
        for entry, variable in zip(self._latents, self.layout.latents, strict=True):
            name = entry.node.name
            own = tuple(
                self._dag.variable(("free", name, position))
                for position in range(variable.free_size)
            )
            free.extend(own)
            ends = (own, entry.slots)
            given, wanted = ends if direction == "constrain" else ends[::-1]
            supports = _supports(entry)
            if len(supports) == 1 and supports[0][0] in _REAL:
                definitions.update(zip(wanted, given, strict=True))
                continue
            parts: list[tuple[int, ...]] = []
            for number, (support, bounds) in enumerate(supports):
                outputs = tuple(
                    self._dag.variable((direction, name, number, position))
                    for position in range(len(wanted) + 1)
                )
                key = (support, len(entry.slots), len(supports) > 1)
                job = Job(direction, key, (given, *bounds), outputs)
                definitions.update(dict.fromkeys(outputs, job))
                parts.append(outputs)
            targets = (*wanted, self._dag.variable((direction, name, "log det")))
            for target, members in zip(targets, zip(*parts, strict=True), strict=True):
                definitions[target] = (
                    members[0]
                    if len(members) == 1
                    else entry.select(self._dag, members)
                )
            log_dets.append(targets[-1])
        return tuple(free), definitions, tuple(log_dets)

    # -------------------------------------------------------------- running

    @cached_property
    def _curved(self) -> tuple[int, ...]:
        """Positions of the latents whose map has a log|det|."""
        return tuple(
            position
            for position, entry in enumerate(self._latents)
            if len(found := _supports(entry)) > 1 or found[0][0] not in _REAL
        )

    @cached_property
    def _all_real(self) -> bool:
        return all(
            support in _REAL
            for entry in self._latents
            for support, _ in _supports(entry)
        )

    def _run(
        self, plan: Plan, sources: Sequence[Tensor], num_rows: int, like: Tensor
    ) -> list[Tensor]:
        return plan.run(sources, num_rows=num_rows, like=like)

    def _evaluated(self, plan: Plan, latents: Tensor, observed: Tensor) -> Tensor:
        """Return the plan's output for every row, nan explained or raised."""
        z, batch = _columns(latents, self.layout.latent_dim, "latents")
        x, shape = _columns(observed, self.layout.observed_dim, "observed")
        if latents.dtype != observed.dtype:
            raise ModelError(
                Problem(
                    "observed",
                    "the type differs from that of the latents",
                    str(latents.dtype),
                    str(observed.dtype),
                )
            )
        if shape != batch and math.prod(shape) != 1:
            batch, x, z = _joint_rows(batch, shape, x, z)
        count = math.prod(batch)
        is_sum = bool(plan.sums)
        if not count:
            size = len(plan.outputs[0])
            return latents.new_zeros(batch if is_sum else (*batch, size))
        (result,) = plan.run([z, x], num_rows=count, like=latents)
        wide = result if is_sum else result.expand(result.shape[0], count)
        # A sum is nan if one of its terms is: one number decides the usual case.
        if math.isnan(float(wide.detach().sum() + z.detach().sum())):
            wide = self._explained(wide, z, x, count)
        return wide.reshape(batch) if is_sum else wide.t().reshape(*batch, -1)

    def _explained(self, result: Tensor, z: Tensor, x: Tensor, count: int) -> Tensor:
        """Return the result with impossible rows at -inf; raise where nan remains."""
        with torch.no_grad():
            (terms,) = self._prior_terms_plan.run([z, x], num_rows=count, like=z)
            is_impossible = (terms == -math.inf).any(0).expand(count)
            is_unknown = torch.isnan(z).any(0) | torch.isnan(x).any(0)
            is_nan = torch.isnan(result)
            is_bad = is_nan & ~is_impossible & ~is_unknown
            if self._is_forgiving:
                return torch.where(is_nan, -math.inf, result)
            if bool(is_bad.any()):
                rows = is_bad if is_bad.dim() == 1 else is_bad.any(0)
                raise self._invalid_parameter(z, x, int(torch.nonzero(rows)[0]))
        possible = torch.where(is_nan & is_impossible, -math.inf, result)
        return torch.where(is_unknown, math.nan, possible)

    # -------------------------------------------------------------- errors

    def _refuse_discrete(self) -> None:
        discrete = [v.label for v in self.layout.latents if v.is_discrete]
        if discrete:
            raise ModelError(
                Problem(
                    self.graph.source,
                    "discrete latents have no free coordinates",
                    "continuous latents",
                    f"{_listed(discrete)}",
                )
            )

    def _values(self, entry: Lowered, z: Tensor, x: Tensor, row: int) -> list[Problem]:
        """Return what is wrong with the parameters of a node in one row."""
        problems = []
        like = z.new_empty(0)
        z, x = _row(z, row), _row(x, row)
        taken = 0
        if entry.index is not None:
            plan = Plan(self._dag, self._given, [(entry.index,)])
            (index,) = plan.run([z, x], num_rows=1, like=like)
            taken = int(index.flatten()[0]) if not bool(torch.isnan(index).any()) else 0
        if entry.condition is not None:
            plan = Plan(self._dag, self._given, [(entry.condition,)])
            (condition,) = plan.run([z, x], num_rows=1, like=like)
            if not bool(condition.flatten()[0]):
                return []
        branch = entry.branches[taken]
        plan = Plan(self._dag, self._given, branch.parameters)
        values = [
            value.expand(value.shape[0], 1).reshape(1, *shape, 1)
            for value, shape in zip(
                plan.run([z, x], num_rows=1, like=like), branch.shapes, strict=True
            )
        ]
        for parameter, value in _misused(branch, values):
            problems.append(self._problem(entry, branch, parameter, value, z, x, row))
        return problems

    def _problem(
        self,
        entry: Lowered,
        branch: Branch,
        parameter: tuple[str, str],
        value: str,
        z: Tensor,
        x: Tensor,
        row: int,
    ) -> Problem:
        name, expected = parameter
        node = entry.node
        link = show(node.distribution, self.graph.labels, limit=_SHOWN)
        parents = []
        for parent in node.parents[:4]:
            variable = self.layout.variable(parent)
            source = x if self.graph.node(parent).is_observed else z
            numbers = source[variable.start : variable.stop, 0].tolist()
            shown = f"{numbers[0]:.6g}" if not variable.shape else "[...]"
            parents.append(f"{variable.label} = {shown}")
        context = f" with {', '.join(parents)}" if parents else ""
        label = node.label if node.label == node.name else f"{node.name} ({node.label})"
        return Problem(
            place(self.graph, "P", node.name),
            f"the {name} of {branch.family} is not valid at draw {row} of {label}",
            expected,
            f"{value} from {link}{context}",
        )

    def _invalid_parameter(self, z: Tensor, x: Tensor, row: int) -> ModelError:
        for node in self.graph.nodes:
            problems = self._values(self._lowered[node.name], z, x, row)
            if problems:
                return ModelError(*problems)
        return self._invalid(row)

    def _invalid(self, row: int) -> ModelError:
        return ModelError(
            Problem(self.graph.source, f"the density of row {row} is not a number")
        )

    def _invalid_draw(self, problem: InvalidDraw) -> ModelError:
        entry, branch = problem.tag
        link = show(entry.node.distribution, self.graph.labels, limit=_SHOWN)
        found = _misused(branch, problem.parameters)
        name, expected, value = "parameter", "", ""
        if found:
            (name, expected), value = found[0]
        return ModelError(
            Problem(
                place(self.graph, "P", entry.node.name),
                f"the {name} of {branch.family} is not valid at draw {problem.row} "
                f"of {entry.node.label}",
                expected,
                f"{value} from {link}",
            )
        )

    def _raise_outside(self, free: Tensor, latents: Tensor) -> None:
        row, column = torch.nonzero(torch.isnan(free))[0].tolist()
        for variable in self.layout.latents:
            if variable.free_start <= column < variable.free_stop:
                values = latents[row, variable.start : variable.stop].tolist()
                families = " or ".join(
                    b.family for b in self._lowered[variable.name].branches
                )
                shown = ", ".join(f"{value:.6g}" for value in values[:6])
                raise ModelError(
                    Problem(
                        place(self.graph, "P", variable.name),
                        f"the value of {variable.label} at row {row} is outside the "
                        f"support of {families}",
                        FAMILIES[
                            self._lowered[variable.name].branches[0].family
                        ].support,
                        shown,
                    )
                )


def _misused(
    branch: Branch, values: Sequence[Tensor]
) -> list[tuple[tuple[str, str], str]]:
    """Return the parameters of one row that are not valid, with what they should be."""
    density = DENSITIES[branch.family]
    found = []
    for parameter, value in zip(density.parameters, values, strict=True):
        if not bool(parameter.is_valid(value).all()):
            found.append(((parameter.name, parameter.expected), _number(value)))
    if not found and density.are_valid is not None:
        expected, together = density.are_valid
        if not bool(together(*values).all()):
            names = " and ".join(parameter.name for parameter in density.parameters)
            shown = " and ".join(_number(value) for value in values)
            found.append(((names, expected), shown))
    return found


def _number(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{value.item():.6g}"
    if value.dim() == 4:
        rows = value[0, :, :, 0].tolist()
        text = " ".join("[" + " ".join(f"{v:.6g}" for v in row) + "]" for row in rows)
    else:
        text = " ".join(f"{v:.6g}" for v in value.flatten().tolist())
    return f"[{text}]" if len(text) < _SHOWN else f"[{text[:_SHOWN]} ...]"


def _row(columns: Tensor, row: int) -> Tensor:
    return columns[:, row : row + 1] if columns.shape[1] > 1 else columns


def _supports(entry: Lowered) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Return the support of each branch with the slots of its bounds; once if equal."""
    found = []
    for branch in entry.branches:
        support = str(FAMILIES[branch.family].support)
        bounds = branch.parameters[-2:] if support == "interval" else ()
        found.append((support, bounds))
    return found[:1] if len(set(found)) == 1 else found


def _variables(entries: Sequence[Lowered], *, are_latent: bool) -> tuple[Variable, ...]:
    start = free_start = 0
    variables = []
    for entry in entries:
        size = len(entry.slots)
        free = 0
        if are_latent and not entry.is_discrete:
            support, _ = _supports(entry)[0]
            free = BIJECTIONS[support].free_size(size)
        variables.append(
            Variable(
                name=entry.node.name,
                label=entry.node.label,
                shape=entry.shape,
                start=start,
                stop=start + size,
                free_start=free_start,
                free_stop=free_start + free,
                is_discrete=entry.is_discrete,
            )
        )
        start += size
        free_start += free
    return tuple(variables)


def _columns(values: Tensor, width: int, name: str) -> tuple[Tensor, tuple[int, ...]]:
    """Return a batch as [column, row], and its batch shape."""
    if values.dim() < 1 or values.shape[-1] != width:
        raise ModelError(
            Problem(
                name,
                "wrong number of columns",
                str(width),
                str(values.shape[-1]) if values.dim() else "a single number",
            )
        )
    batch = tuple(values.shape[:-1])
    return values.reshape(math.prod(batch), width).t().contiguous(), batch


def _joint_rows(
    batch: tuple[int, ...], shape: tuple[int, ...], x: Tensor, z: Tensor
) -> tuple[tuple[int, ...], Tensor, Tensor]:
    """Return latents and data as columns of one common batch."""
    try:
        common = tuple(torch.broadcast_shapes(batch, shape))  # type: ignore[no-untyped-call]
    except RuntimeError:
        raise ModelError(
            Problem(
                "observed",
                "the rows do not match those of the latents",
                f"rows of shape {list(batch)}",
                f"{list(shape)}",
            )
        ) from None
    wide = []
    for columns, own in ((x, shape), (z, batch)):
        if math.prod(own) == 1:
            wide.append(columns)
            continue
        shaped = columns.reshape(columns.shape[0], *own)
        shaped = shaped.expand(columns.shape[0], *common)
        wide.append(shaped.reshape(columns.shape[0], -1))
    return common, wide[0], wide[1]


def _misfit(entry: Lowered, problem: Misfit, where: str) -> Problem:
    what, expected, got = problem.args
    node = entry.node
    label = "" if node.label == node.name else f" ({node.label})"
    return Problem(where, f"{what}{label}", expected, got)


def _constant_problems(
    graph: Graph, dag: Dag, lowered: Sequence[Lowered]
) -> list[Problem]:
    """Return a problem for every distribution whose known parameters are not valid."""
    groups: dict[tuple[str, tuple[Shape, ...]], list[tuple[Lowered, Branch]]] = {}
    for entry in lowered:
        for branch in entry.branches:
            groups.setdefault((branch.family, branch.shapes), []).append(
                (entry, branch)
            )
    problems: dict[str, Problem] = {}
    for (family, shapes), members in groups.items():
        density = DENSITIES[family]
        for position, shape in enumerate(shapes):
            known = [
                (entry, branch)
                for entry, branch in members
                if all(map(dag.is_constant, branch.parameters[position]))
            ]
            if not known:
                continue
            numbers = torch.tensor(
                [[dag.number(s) for s in b.parameters[position]] for _, b in known],
                dtype=torch.float64,
            ).reshape(len(known), *shape, 1)
            parameter = density.parameters[position]
            is_valid = parameter.is_valid(numbers)
            for number in torch.nonzero(~is_valid[:, 0]).flatten().tolist():
                entry = known[number][0]
                problems.setdefault(
                    entry.node.name,
                    Problem(
                        place(graph, "P", entry.node.name),
                        f"the {parameter.name} of {family} is not valid",
                        parameter.expected,
                        _number(numbers[number : number + 1]),
                    ),
                )
    return list(problems.values())
