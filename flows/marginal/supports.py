"""This file says which values a discrete latent takes, an infinite support cut off."""

import math
from collections.abc import Mapping, Sequence

from daphne_bridge.graph.expression import Value
from daphne_bridge.graph.graph import Graph, Node
from daphne_bridge.language.families import FAMILIES
from daphne_bridge.language.primitives import equal

from ..errors import ModelError, Problem
from ..model.dag import Dag
from ..model.lowered import Branch, Lowered, place
from ..model.values import is_known
from .cuts import cuts_of
from .limits import MOST_VALUES, too_wide

__all__ = ["Supports", "UnboundedError", "code_of"]

_MANY_TRIALS = 1000
"""From so many trials on a binomial is cut off like a poisson."""


class UnboundedError(ModelError):
    """A latent has infinitely many values, and no cut is known beforehand.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str, problem: Problem) -> None:
        super().__init__(problem)
        self.name = name


def code_of(value: Value, categories: Sequence[Value]) -> float:
    """Return how a column writes a discrete value: itself, or its category's place."""
    if not categories:
        return float(value)
    return float(next(i for i, c in enumerate(categories) if equal(c, value)))


class Supports:
    """The values of the discrete latents of a graph.

    Attributes:
        truncated: Names of those whose infinitely many values were cut off so far.
    """

    def __init__(
        self,
        graph: Graph,
        dag: Dag,
        cuts: Mapping[str, int],
        log_tail: float,
        most_counted: int,
    ) -> None:
        """Say what values depend on.

        Args:
            graph: Whose latents.
            dag: Has the parameters of their distributions.
            cuts: Largest value kept of some latents.
            log_tail: Log of the mass that other cuts leave out.
            most_counted: Most values of what is cut.
        """
        self.truncated: list[str] = []
        self._graph = graph
        self._dag = dag
        self._cuts = cuts
        self._log_tail = log_tail
        self._most_counted = most_counted

    def of(self, node: Node, forms: Sequence[Lowered]) -> tuple[Value, ...]:
        """Return every value that a discrete latent can take, at any configuration.

        Args:
            node: The latent.
            forms: It at every configuration at which it has a meaning.

        Raises:
            UnboundedError: If the support is infinite, its parameters are not known,
                and no cut is given.
            TooWideError: If they are too many.
            ModelError: If the values are random themselves.
        """
        numbers: set[int] = set()
        found: list[Value] = []
        for form in forms:
            for branch in form.branches:
                values = self._values_of(node, form, branch)
                if isinstance(values, range):
                    numbers.update(values)
                    continue
                found.extend(v for v in values if not any(equal(v, o) for o in found))
        if not all(map(is_known, found)):
            raise self._random(node)
        if numbers and all(
            isinstance(v, int) and not isinstance(v, bool) for v in found
        ):
            return tuple(sorted(numbers.union(found)))
        return (*sorted(numbers), *found)

    def _random(self, node: Node) -> ModelError:
        return ModelError.at(
            place(self._graph, "P", node.name),
            f"the values of the discrete latent {node.label} are random "
            "themselves, so that it cannot be summed out",
            "a categorical over constants, and (get values index)",
        )

    def _values_of(self, node: Node, form: Lowered, branch: Branch) -> Sequence[Value]:
        family = branch.family
        if family == "flip":
            return (False, True)
        if family == "bernoulli":
            return range(2)
        if family == "discrete":
            return range(branch.shapes[0][0])
        if family == "categorical":
            return form.categories
        if family == "dirac":
            (slot,) = branch.parameters[0]
            if not self._dag.is_constant(slot):
                raise self._random(node)
            number = self._dag.number(slot)
            return (int(number) if number == int(number) else number,)
        if node.name in self._cuts:
            if self._cuts[node.name] >= self._most_counted:
                raise too_wide(self._graph, self._cuts[node.name])
            self._note_truncated(node)
            return range(self._cuts[node.name] + 1)
        known = [
            [self._dag.number(slot) for slot in slots]
            if all(map(self._dag.is_constant, slots))
            else None
            for slots in branch.parameters
        ]
        bounds = _bounds(family, known, self._log_tail)
        if bounds is None:
            problem = Problem(
                place(self._graph, "P", node.name),
                f"the values of the discrete latent {node.label} are not finitely many:"
                f" the parameters of {family} depend on continuous latents",
                "bounds that are numbers, or depend on discrete latents",
            )
            if FAMILIES[family].support == "integers from zero":
                raise UnboundedError(node.name, problem)
            raise ModelError(problem)
        low, high, is_cut = bounds
        if is_cut:
            self._note_truncated(node)
        if high - low > MOST_VALUES:
            raise too_wide(self._graph, high - low)
        return range(low, high)

    def _note_truncated(self, node: Node) -> None:
        if node.name not in self.truncated:
            self.truncated.append(node.name)


def _bounds(
    family: str, known: Sequence[Sequence[float] | None], log_tail: float
) -> tuple[int, int, bool] | None:
    """Return the first value, one past the last, and whether that cuts a tail."""
    support = FAMILIES[family].support
    if support == "integer interval" and family == "binomial":
        if known[0] is None:
            return None
        if known[0][0] < _MANY_TRIALS or known[1] is None:
            return 0, int(known[0][0]) + 1, False
    elif support == "integer interval":
        if known[0] is None or known[1] is None:
            return None
        return math.ceil(known[0][0]), math.ceil(known[1][0]), False
    if None in known:
        return None
    parameters = [values[0] for values in known if values is not None]
    first, last = cuts_of(family, parameters, log_tail)
    return first, last + 1, True
