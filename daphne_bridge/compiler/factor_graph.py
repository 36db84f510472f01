"""This file turns what a program means into a factor graph.

    {"X": variables, "F": factors, "A": variable -> factors that mention it,
     "psi": factor -> expression}

Every call and every `if` that is no distribution becomes a variable of its own with the
distribution `(dirac call)`, so that each factor joins few variables. A shared value is
one variable.

References:
    van de Meent, Paige, Yang, Wood, "An Introduction to Probabilistic Programming"
    (2018), section 3.5, https://arxiv.org/abs/1809.10756
"""

from dataclasses import replace
from itertools import count
from typing import Any

from .collection_terms import hash_map, sequence
from .emission import Emission, free_nodes
from .meaning import Analysis, Variable
from .recursion import Recursive, each, run
from .source import Source
from .terms import CallTerm, MapTerm, NodeTerm, SequenceTerm

__all__ = ["factor_graph_json"]


def factor_graph_json(analysis: Analysis, source: Source) -> dict[str, Any]:
    """Return the factor graph of a program.

    Raises:
        CompileError: A value has no place in JSON.
    """
    splitter = _Splitter(analysis)
    for variable in analysis.variables:
        splitter.add(variable)
    emission = Emission(source, analysis.not_finite)
    factors: dict[str, Any] = {}
    neighbours: dict[str, list[str]] = {v.name: [] for v in splitter.variables}
    for variable in splitter.variables:
        factor = f"f-{variable.name}"
        factors[factor] = emission.link_function(variable)
        touched = dict.fromkeys(
            (
                variable.name,
                *free_nodes(variable.distribution),
                *free_nodes(variable.guard),
            )
        )
        for name in touched:
            neighbours[name].append(factor)
    return {
        "X": [v.name for v in splitter.variables],
        "F": list(factors),
        "A": neighbours,
        "psi": factors,
    }


class _Splitter:
    """Gives every deterministic call a variable."""

    def __init__(self, analysis: Analysis) -> None:
        self.variables: list[Variable] = []
        self._names = {v.name for v in analysis.variables}
        self._numbers = count()
        self._done: dict[int, tuple[Any, Any]] = {}
        self._span = analysis.span

    def add(self, variable: Variable) -> None:
        """Add a variable of the program, after those of its calls."""
        self._span = variable.span
        distribution = run(self._parts(variable.distribution))
        guard = variable.guard
        if guard is not True:
            guard = run(self._split(guard))
        self.variables.append(
            replace(variable, distribution=distribution, guard=guard, kept=None)
        )

    def _split(self, value: Any) -> Recursive[Any]:
        """Return what stands for a value inside another one."""
        if not isinstance(value, (CallTerm, SequenceTerm, MapTerm)):
            return value
        if id(value) in self._done:
            return self._done[id(value)][1]
        result = yield self._parts(value)
        if isinstance(result, CallTerm) and not result.is_distribution:
            name = self._fresh()
            dirac = CallTerm("dirac", (result,))
            self.variables.append(Variable(name, "", dirac, self._span))
            result = NodeTerm(name)
        self._done[id(value)] = (value, result)
        return result

    def _parts(self, value: Any) -> Recursive[Any]:
        """Return a value with its parts split off."""
        match value:
            case CallTerm():
                arguments = yield each(map(self._split, value.arguments))
                return CallTerm(value.head, arguments)
            case SequenceTerm():
                items = yield each(map(self._split, value.items))
                return sequence(items, is_vector=value.is_vector)
            case MapTerm():
                keys, values = zip(*value.entries.pairs(), strict=True)
                found = yield each(map(self._split, values))
                return hash_map(list(zip(keys, found, strict=True)))
        return value

    def _fresh(self) -> str:
        while True:
            name = f"dirac{next(self._numbers)}"
            if name not in self._names:
                return name
