"""This file says which columns of a flat tensor belong to which variable.

Values of latents stand side by side in one tensor, node after node in the order of the
graph, a vector or matrix row by row; values of observed nodes likewise in another. A
boolean is 0 or 1, an integer a float, a draw of `categorical` the index of its pair.

Free coordinates are the latents mapped to the real line. A variable may have fewer of
them than natural values (a simplex of n has n - 1, a symmetric p × p matrix
p (p + 1) / 2); a discrete one has none.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

__all__ = ["Layout", "Variable"]


@dataclass(frozen=True, slots=True)
class Variable:
    """The columns of one node.

    Attributes:
        name: The node's name in the document.
        label: The program's own name, or `name`.
        shape: Shape of one value; () for a scalar.
        start: First column among the natural values.
        stop: One past the last.
        free_start: First column among the free coordinates.
        free_stop: One past the last; equal to `free_start` for discrete latents and
            observed nodes.
        is_discrete: Whether the value is discrete.
    """

    name: str
    label: str
    shape: tuple[int, ...]
    start: int
    stop: int
    free_start: int = 0
    free_stop: int = 0
    is_discrete: bool = False

    @property
    def columns(self) -> range:
        """The natural columns."""
        return range(self.start, self.stop)

    @property
    def free_columns(self) -> range:
        """The free columns."""
        return range(self.free_start, self.free_stop)

    @property
    def size(self) -> int:
        """Number of natural columns."""
        return self.stop - self.start

    @property
    def free_size(self) -> int:
        """Number of free columns."""
        return self.free_stop - self.free_start

    @property
    def column_names(self) -> tuple[str, ...]:
        """The label with the position inside the value, `p[0]`, `w[1,0]`."""
        if not self.shape:
            return (self.label,)
        names = []
        for flat in range(math.prod(self.shape)):
            rest, index = flat, []
            for length in reversed(self.shape):
                rest, position = divmod(rest, length)
                index.append(str(position))
            names.append(f"{self.label}[{','.join(reversed(index))}]")
        return tuple(names)


@dataclass(frozen=True)
class Layout:
    """The columns of all nodes.

    Attributes:
        latents: Variables of the latents, in the order of the graph.
        observed: Variables of the observed nodes, in the order of the graph.
    """

    latents: tuple[Variable, ...]
    observed: tuple[Variable, ...]

    @cached_property
    def latent_dim(self) -> int:
        """Number of columns of the latents' natural values."""
        return _end(variable.stop for variable in self.latents)

    @cached_property
    def free_dim(self) -> int:
        """Number of free coordinates."""
        return _end(variable.free_stop for variable in self.latents)

    @cached_property
    def observed_dim(self) -> int:
        """Number of columns of the observed values."""
        return _end(variable.stop for variable in self.observed)

    @cached_property
    def _by_name(self) -> dict[str, Variable]:
        return {variable.name: variable for variable in self.latents + self.observed}

    def variable(self, name: str) -> Variable:
        """Return the variable of a node.

        Raises:
            KeyError: If no node has this name.
        """
        return self._by_name[name]

    def without(self, names: Collection[str]) -> "Layout":
        """Return the columns of all latents but some, and of the observed nodes."""
        own = [v for v in self.latents if v.name not in names]
        return self.keeping({v.name: v.free_size for v in own})

    def keeping(self, free_sizes: Mapping[str, int]) -> "Layout":
        """Return the columns of some latents, and of the observed nodes.

        Args:
            free_sizes: How many free coordinates each of them has, by name.
        """
        latents: list[Variable] = []
        stop = free_stop = 0
        for variable in self.latents:
            if variable.name not in free_sizes:
                continue
            start, free_start = stop, free_stop
            stop += variable.size
            free_stop += free_sizes[variable.name]
            latents.append(
                replace(
                    variable,
                    start=start,
                    stop=stop,
                    free_start=free_start,
                    free_stop=free_stop,
                )
            )
        return Layout(tuple(latents), self.observed)

    def left_out(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the labels of the observed nodes that data of some names leave out.

        Args:
            names: A node's own, the program's, or those of its entries, `p[0]`.
        """
        given = frozenset(names)
        return tuple(
            v.label
            for v in self.observed
            if given.isdisjoint((v.name, v.label, *v.column_names))
        )

    def latents_named(self, key: str) -> tuple[Variable, ...]:
        """Return the latents that a user calls by a name; none if there is none.

        Args:
            key: The document's name, the program's, or the common name `pixel` of
                `pixel[0]`, `pixel[1]`, ...
        """
        for attribute in ("name", "label"):
            exact = tuple(v for v in self.latents if getattr(v, attribute) == key)
            if exact:
                return exact
        return tuple(v for v in self.latents if v.label.startswith(f"{key}["))


def _end(stops: Iterable[int]) -> int:
    return max(stops, default=0)
