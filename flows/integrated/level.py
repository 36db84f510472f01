"""This file says what latents have that are integrated out, and drawn, at once."""

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from .conditionals import Conditional

__all__ = ["Level"]


class Level(Protocol):
    """Latents that are drawn at once, given those of earlier levels."""

    @property
    def columns(self) -> Sequence[int]:
        """Of their free coordinates."""

    @property
    def conditionals(self) -> Sequence[Conditional]:
        """Each latent's, given those before it."""

    def log_integral(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
    ) -> Float[Tensor, " row"]:
        """Return the log of their factors, integrated over them, in nats.

        Args:
            free: Of all latents of the model; columns of these are not looked at.
            observed: Observed values.
        """

    def completed(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
        base: Float[Tensor, "row latent"],
        is_known: Bool[Tensor, " latent"],
    ) -> tuple[Float[Tensor, "row latent"], Float[Tensor, "row latent"]]:
        """Return values of these latents, and their log densities, one by one.

        Args:
            free: Of all latents of the model, known ones of these included.
            observed: Observed values.
            base: Standard normal points, of which the others are made.
            is_known: Which are known; with one, all that its conditional reads.
        """
