"""This file draws the nodes of a graph, each given its parents, and refuses nan."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..errors import ArgumentError
from .columns import as_columns, as_rows
from .draw_schedules import DrawSchedules
from .draws import Draws
from .explanations import invalid_draw, missing_value
from .schedule import InvalidDraw, Schedule
from .shapes import LatentRows, ObservedRow

__all__ = ["Drawing"]


class Drawing:
    """The draws of a model; where it is forgiving, those without meaning are nan."""

    if TYPE_CHECKING:  # fields of the model

        @property
        def draw_schedules(self) -> DrawSchedules: ...  # noqa: D102

        @property
        def is_forgiving(self) -> bool: ...  # noqa: D102

        @property
        def dtype(self) -> torch.dtype: ...  # noqa: D102

        @property
        def device(self) -> torch.device: ...  # noqa: D102

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
        schedule = self.draw_schedules.everything
        return self._draws(self._run(schedule, [], num, self._like(dtype), generator))

    def sample_latents(
        self,
        num: int,
        *,
        generator: Generator,
        observed: ObservedRow | None = None,
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
        schedules, like = self.draw_schedules, self._like(dtype)
        schedule, sources = schedules.latents_alone, []
        if observed is not None:
            layout = schedules.lowered.layout
            given, _ = as_columns(observed, layout.observed_dim, "observed")
            schedule, sources = schedules.given(layout.observed), [given.to(like)]
        latents = self._run(schedule, sources, num, like, generator)[0]
        self._check(latents, "latent")
        return latents

    def sample_more(
        self,
        names: Sequence[str],
        latents: LatentRows,
        observed: ObservedRow,
        *,
        generator: Generator,
    ) -> LatentRows:
        """Return the rows of latents with some of them drawn, each given its parents.

        Args:
            names: Latents to draw, by the document's name.
            latents: Rows of all latents; only parents of those to draw are read.
            observed: What latents read where they depend on observed nodes.
            generator: Source of randomness, on the model's device.

        Raises:
            ModelError: If a distribution has a parameter without meaning at some draw.
        """
        layout, num = self.draw_schedules.lowered.layout, len(latents)
        z, _ = as_columns(latents, layout.latent_dim, "latents")
        x, _ = as_columns(observed, layout.observed_dim, "observed")
        like = latents.new_empty(0)
        (values,) = self._run(
            self.draw_schedules.more(tuple(names)), [z, x], num, like, generator
        )
        variables = [layout.variable(name) for name in names]
        columns = [c for v in variables for c in v.columns]
        drawn = torch.zeros_like(latents)
        drawn[:, columns] = values
        self._check(drawn, "latent")
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
            ArgumentError: If no node is given, or the shapes do not fit.
            GraphError: If a name is not known.
            ModelError: If a distribution has a parameter without meaning at some draw.
        """
        lowered = self.draw_schedules.lowered
        variables = tuple(
            lowered.layout.variable(lowered.graph.resolve(name)) for name in values
        )
        rows = list(values.values())
        shapes = [tuple(part.shape) for part in rows]
        num = shapes[0][0] if shapes and shapes[0] else 0
        expected = [(num, variable.size) for variable in variables]
        if not shapes or shapes != expected:
            raise ArgumentError.at(
                "given values",
                "the shapes do not fit the nodes",
                f"rows of shapes {expected}, as many of each node",
                f"{shapes}",
            )
        source = torch.cat(rows, 1).to(self.device).t().contiguous()
        drawn = self._run(
            self.draw_schedules.given(variables),
            [source],
            num,
            source.new_empty(0),
            generator,
        )
        return self._draws(drawn)

    def _like(self, dtype: torch.dtype | None) -> Tensor:
        """Return a tensor of the type and device of draws."""
        return torch.empty(0, dtype=dtype or self.dtype, device=self.device)

    def _run(
        self,
        schedule: Schedule,
        sources: Sequence[Tensor],
        num: int,
        like: Tensor,
        generator: Generator,
    ) -> list[Tensor]:
        """Return the schedule's outputs as tensors [draw, column]."""
        if not num:
            return [like.new_zeros(0, width) for width in schedule.widths]
        try:
            with torch.no_grad():
                columns = schedule.run(
                    sources,
                    num_rows=num,
                    like=like,
                    generator=generator,
                    is_forgiving=self.is_forgiving,
                )
        except InvalidDraw as problem:
            raise invalid_draw(self.draw_schedules.lowered, problem) from None
        return [as_rows(part, (num,)).contiguous() for part in columns]

    def _draws(self, drawn: Sequence[Tensor]) -> Draws:
        latents, observed = drawn
        self._check(latents, "latent")
        self._check(observed, "observed")
        return Draws(latents, observed)

    def _check(self, values: Tensor, kind: str) -> None:
        """Raise an error where draws have no value."""
        if not self.is_forgiving and bool(torch.isnan(values).any()):
            layout = self.draw_schedules.lowered.layout
            variables = layout.latents if kind == "latent" else layout.observed
            raise missing_value(self.draw_schedules.lowered, kind, values, variables)
