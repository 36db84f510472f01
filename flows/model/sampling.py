"""This file draws the nodes of a graph, each given its parents, and refuses nan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..errors import ArgumentError, Problem
from .columns import as_columns, as_rows
from .draw_schedules import DrawSchedules
from .draws import Draws
from .explanations import invalid_draw, missing_value
from .lowered_graph import LoweredGraph
from .schedule import InvalidDraw, Schedule
from .shapes import LatentRows, ObservedRow

__all__ = ["Sampler"]

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Draws of the nodes of a graph.

    Every method raises a ModelError if a distribution has a parameter without meaning
    at some draw; where `is_forgiving` such draws are nan instead.

    Attributes:
        schedules: What draws them.
        is_forgiving: Whether draws without meaning are nan, not an error.
    """

    schedules: DrawSchedules
    is_forgiving: bool = False

    @property
    def _lowered(self) -> LoweredGraph:
        return self.schedules.lowered

    def sample(self, num: int, like: Tensor, generator: Generator) -> Draws:
        """Return joint draws of all nodes, of the type and device of `like`."""
        drawn = self._run(self.schedules.everything, [], num, like, generator)
        return self._draws(drawn)

    def sample_latents(
        self, num: int, observed: ObservedRow | None, like: Tensor, generator: Generator
    ) -> Float[Tensor, "num latent"]:
        """Return draws of the latents alone; `observed` is what they read of data."""
        schedule, sources = self.schedules.latents_alone, []
        if observed is not None:
            layout = self._lowered.layout
            given, _ = as_columns(observed, layout.observed_dim, "observed")
            schedule, sources = self.schedules.given(layout.observed), [given.to(like)]
        latents = self._run(schedule, sources, num, like, generator)[0]
        self._check(latents, "latent")
        return latents

    def sample_more(
        self,
        names: Sequence[str],
        latents: LatentRows,
        observed: ObservedRow,
        generator: Generator,
    ) -> LatentRows:
        """Return the rows of latents with some of them drawn given the others."""
        layout, num = self._lowered.layout, len(latents)
        z, _ = as_columns(latents, layout.latent_dim, "latents")
        x, _ = as_columns(observed, layout.observed_dim, "observed")
        like = latents.new_empty(0)
        (values,) = self._run(
            self.schedules.more(tuple(names)), [z, x], num, like, generator
        )
        variables = [layout.variable(name) for name in names]
        columns = [c for v in variables for c in range(v.start, v.stop)]
        drawn = torch.zeros_like(latents)
        drawn[:, columns] = values
        self._check(drawn, "latent")
        more = latents.clone()
        more[:, columns] = values
        return more

    def sample_given(
        self,
        values: Mapping[str, Float[Tensor, "num column"]],
        device: torch.device,
        generator: Generator,
    ) -> Draws:
        """Return joint draws in which some nodes have given values, one per row."""
        lowered = self._lowered
        variables = tuple(
            lowered.layout.variable(lowered.graph.resolve(name)) for name in values
        )
        rows = list(values.values())
        shapes = [tuple(part.shape) for part in rows]
        num = shapes[0][0] if shapes and shapes[0] else 0
        expected = [(num, variable.size) for variable in variables]
        if not shapes or shapes != expected:
            raise ArgumentError(
                Problem(
                    "given values",
                    "the shapes do not fit the nodes",
                    f"rows of shapes {expected}, as many of each node",
                    f"{shapes}",
                )
            )
        source = torch.cat(rows, 1).to(device).t().contiguous()
        drawn = self._run(
            self.schedules.given(variables),
            [source],
            num,
            source.new_empty(0),
            generator,
        )
        return self._draws(drawn)

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
            raise invalid_draw(self._lowered, problem) from None
        return [as_rows(part, (num,)).contiguous() for part in columns]

    def _draws(self, drawn: Sequence[Tensor]) -> Draws:
        latents, observed = drawn
        self._check(latents, "latent")
        self._check(observed, "observed")
        return Draws(latents, observed)

    def _check(self, values: Tensor, kind: str) -> None:
        """Raise an error where draws have no value."""
        if not self.is_forgiving and bool(torch.isnan(values).any()):
            layout = self._lowered.layout
            variables = layout.latents if kind == "latent" else layout.observed
            raise missing_value(self._lowered, kind, values, variables)
