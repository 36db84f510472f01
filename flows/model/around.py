"""This file is what a model that is made around another one has of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from daphne_bridge.graph.graph import Graph

from .model import Model
from .shapes import ObservedRow

__all__ = ["AroundModel"]


class AroundModel:
    """Graph, data, type and device of the model inside."""

    has_density = True
    """Whether all of its latents have one."""

    if TYPE_CHECKING:  # a field or an attribute

        @property
        def model(self) -> Model: ...  # noqa: D102

    @property
    def graph(self) -> Graph:
        """The graph of the model inside, all of its latents included."""
        return self.model.graph

    @property
    def dtype(self) -> torch.dtype:
        """Type of draws and of the observation."""
        return self.model.dtype

    @property
    def device(self) -> torch.device:
        """Device of draws and of the observation."""
        return self.model.device

    def observation(
        self, values: Mapping[str, Any] | None = None, **options: Any
    ) -> ObservedRow:
        """Return the data as a row: the document's, replaced by `values`."""
        return self.model.observation(values, **options)
