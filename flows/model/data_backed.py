r"""This file replaces the prior of named latents by draws from a table.

With rows r_1..r_N of the table for latents b, and c the other latents,

    draw:  b = a row picked at random,  c ~ p(c | b),  observed ~ p(observed | b, c).

The table has no density, so neither has the joint. What needs one is refused: of the
objectives only the forward KL is left, which without the table's constant entropy is
E[-log q(latents, nuisances | observed)].

The inverse of the graph takes the latents of the table to be as independent as the
program says. Rows whose columns depend on each other are then fitted up to what the
edges of the inverse can carry.

References:
    Weilbach et al., AISTATS 2020, section 4.3 (image patches in place of a prior).
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ModelError, Problem
from .around import AroundModel
from .coordinates import Coordinates
from .draws import Draws
from .in_free_coordinates import InFreeCoordinates
from .layout import Layout, Variable
from .model import Model
from .shapes import Latents, LogDensity, Observed

__all__ = ["DataBackedModel"]


class DataBackedModel(InFreeCoordinates, AroundModel):
    """A model some of whose latents come from a table.

    Attributes:
        model: The program's own model, for its link functions.
        table: Rows of the latents' columns.
    """

    has_density = False
    model: Model

    def __init__(
        self,
        model: Model,
        latents: tuple[Variable, ...],
        table: Float[Tensor, "row column"],
    ) -> None:
        self.model = model
        self.table = table
        self._latents = latents

    @classmethod
    def from_arrays(
        cls,
        model: Model,
        arrays: Mapping[str, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"],
        where: str,
    ) -> "DataBackedModel":
        """Return the model with latents from arrays, checked.

        Args:
            model: The program's model.
            arrays: By name of a latent, the program's or the document's, or by the
                common name `pixel` of latents `pixel[0]`, `pixel[1]`, ...; the first
                axis counts rows, the others are flattened.
            where: What the arrays were read from, for messages.

        Raises:
            ModelError: With every array that fits no latent.
        """
        problems: list[Problem] = []
        chosen: list[Variable] = []
        parts: list[Tensor] = []
        for key, array in arrays.items():
            variables = model.layout.latents_named(key)
            problem = _problem(model, variables, array)
            if problem is None:
                chosen.extend(variables)
                flat = np.asarray(array, dtype=np.float64).reshape(len(array), -1)
                parts.append(torch.from_numpy(flat.copy()))
            else:
                problems.append(Problem(f"{where}, {key}", *problem))
        names = [v.label for v in chosen]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.append(Problem(where, f"{twice[0]} has two arrays"))
        counts = sorted({len(part) for part in parts})
        if len(counts) > 1:
            problems.append(
                Problem(
                    where, "numbers of rows differ", f"{counts[0]}", f"{counts[-1]}"
                )
            )
        if not arrays:
            problems.append(Problem(where, "no array", "an array for a latent"))
        if problems:
            raise ModelError(*problems)
        return cls(model, tuple(chosen), torch.cat(parts, 1).to(model.dtype))

    @property
    def layout(self) -> Layout:
        """Columns of latents and observed nodes."""
        return self.model.layout

    def sample(self, num: int, *, generator: torch.Generator) -> Draws:
        """Return joint draws, latents of the table from rows picked at random."""
        rows = torch.randint(len(self.table), (num,), generator=generator)
        return self.sample_at(rows, generator=generator)

    def sample_at(self, rows: Tensor, *, generator: torch.Generator) -> Draws:
        """Return one joint draw for each of these rows of the table."""
        table, given, start = self.table[rows], {}, 0
        for variable in self._latents:
            given[variable.name] = table[:, start : start + variable.size]
            start += variable.size
        return self.model.sample_given(given, generator=generator)

    @property
    def coordinates(self) -> Coordinates:
        """Maps latents to the real line and back."""
        return self.model.coordinates

    def log_joint(self, latents: Latents, observed: Observed) -> LogDensity:
        """Refuse: there is no density.

        Raises:
            ModelError: Always.
        """
        del latents, observed
        raise ModelError.at(
            self.model.graph.source,
            "latents that come from a file have no density, so nothing that needs "
            "log p can be computed: reverse and symmetric KL, J, weights",
            "the forward objective, which needs draws only",
        )


def _problem(
    model: Model,
    variables: tuple[Variable, ...],
    array: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> tuple[str, str, str] | None:
    """Return what is wrong with an array: sentence, expected, got."""
    if not variables:
        known = ", ".join(v.label for v in model.layout.latents[:6])
        return "no latent of this name", f"one of {known}", "another name"
    dependent = [v for v in variables if model.graph.parents(v.name)]
    if dependent:
        parent = model.graph.parents(dependent[0].name)[0]
        return (
            f"{dependent[0].label} depends on other nodes, so a file cannot replace "
            "its prior",
            "latents without parents",
            f"parent {parent}",
        )
    width = sum(v.size for v in variables)
    if array.ndim < 1 or not len(array):
        return "no rows", "at least one row", f"shape {array.shape}"
    if not np.issubdtype(array.dtype, np.number):
        return "not numbers", "an array of numbers", str(array.dtype)
    if array.size != width * len(array):
        got = f"{array.size // len(array)}"
        return "wrong number of columns", f"{width} numbers per row", got
    if not np.isfinite(array).all():
        return "not finite", "finite numbers", "nan or infinity"
    return None
