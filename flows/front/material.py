"""This file says what a flow is trained on: draws of the model, or rows of a file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FlowsError, Problem
from ..integrated.choice import integrated_where_it_pays
from ..integrated.target import IntegratedModel
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import target_of
from ..model.capabilities import capabilities
from ..model.data_backed import DataBackedModel
from ..model.model import Model
from ..storage.latent_rows import latent_arrays, split_rows
from ..training.config import TrainingConfig

__all__ = ["Material", "Target", "check_trainable"]

Target = Model | CollapsedModel | DataBackedModel | IntegratedModel
"""What a flow can be trained on."""


def check_trainable(model: Model) -> None:
    """Raise unless a flow can be trained for a model.

    Raises:
        FlowsError: If nothing is observed, or no latent is continuous.
    """
    graph = model.graph
    can = capabilities(graph)
    if not can.observed:
        raise FlowsError(
            Problem(graph.source, "the program observes nothing", "an observe")
        )
    if not can.continuous_latents:
        raise FlowsError(
            Problem(
                graph.source,
                "the model has no continuous latent, so there is nothing to train",
                "`daphne-flows infer`, which answers it exactly",
            )
        )


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on, and certified with.

    Attributes:
        training: Draws, and a density if there is one.
        held_out: Draws that certify.
        without_density: Latents whose values come from a file.
        origin: Of those values; enters the configuration of the run.
    """

    training: Target
    held_out: Target
    without_density: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def integrated(self) -> tuple[str, ...]:
        """Latents that are integrated out."""
        if isinstance(self.training, IntegratedModel):
            return self.training.integrated
        return ()

    @classmethod
    def of(
        cls, model: Model, rows: Path | str | None, settings: TrainingConfig
    ) -> "Material":
        """Return the model, or with rows of a file in place of a prior.

        Latents are summed or integrated out as the settings say.

        Raises:
            FlowsError: If the file fits no latent, or the objective needs a density.
        """
        if rows is None:
            target: Target = target_of(model)
            may_integrate = settings.integrate == "auto" and settings.amortised
            if may_integrate and isinstance(target, Model):
                target = integrated_where_it_pays(target)
            return cls(target, target)
        source = str(rows)
        if settings.objective != "forward":
            raise FlowsError(
                Problem(
                    "latents from a file",
                    "they have no density, so only the forward objective can be "
                    "computed",
                    "objective forward",
                    settings.objective,
                )
            )
        arrays = latent_arrays(source, seed=0)
        training, held_out = (
            DataBackedModel.from_arrays(model, part, source)
            for part in split_rows(arrays)
        )
        digest = hashlib.sha256()
        for name in sorted(arrays):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return cls(
            training,
            held_out,
            tuple(v.name for key in arrays for v in model.layout.latents_named(key)),
            {
                "latents_from": {
                    "source": Path(source).name,
                    "digest": f"sha256:{digest.hexdigest()}",
                    "rows": len(training.table),
                    "held_out_rows": len(held_out.table),
                }
            },
        )
