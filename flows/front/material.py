"""This file says what a flow is trained on: draws of the model, or rows of a file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, FlowsError
from ..flow.kinds import KINDS, kind_of
from ..integrated.choice import integrated_where_it_pays
from ..integrated.target import IntegratedModel
from ..marginal.collapsed import CollapsedModel
from ..marginal.target import FlowTarget, target_of
from ..model.capabilities import capabilities, listed
from ..model.data_backed import DataBackedModel
from ..model.model import Model
from ..storage.latent_rows import latent_arrays, split_rows
from ..training.config import TrainingConfig

__all__ = [
    "Material",
    "Target",
    "check_trainable",
    "nothing_to_train",
    "summed_out",
]

Target = FlowTarget | DataBackedModel | IntegratedModel
"""What a flow can be trained on."""


def check_trainable(model: Model) -> None:
    """Raise unless a flow can be used for a model.

    Raises:
        FlowsError: If nothing is observed, or there are no latents.
    """
    graph = model.graph
    can = capabilities(graph)
    if not can.observed:
        raise FlowsError.at(
            graph.source,
            "the program observes nothing, so that there is nothing to train for",
            "an observe; `daphne-flows infer` answers such a program",
        )
    if not (can.continuous_latents or can.discrete_latents):
        raise nothing_to_train(model)


def summed_out(model: Model, settings: TrainingConfig) -> FlowTarget:
    """Return the model, its discrete latents summed out but for those with a head."""
    names = [variable.name for variable in model.layout.latents if variable.is_discrete]
    every = tuple(names) if settings.heads == "all" else ()
    return target_of(model, may_sample=True, sampled=every)


def nothing_to_train(model: Model) -> FlowsError:
    """Return the error of a model that is answered without a flow."""
    return FlowsError.at(
        model.graph.source,
        "the model has no continuous latent, so there is nothing to train",
        "`daphne-flows infer`, which answers it exactly",
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
            target: Target = summed_out(model, settings)
            if not target.layout.latents:
                raise nothing_to_train(model)
            _check_heads(target, settings)
            may_integrate = settings.integrate == "auto" and settings.amortised
            if may_integrate and isinstance(target, Model):
                target = integrated_where_it_pays(target)
            return cls(target, target)
        source = str(rows)
        if settings.objective != "forward":
            raise FlowsError.at(
                "latents from a file",
                "they have no density, so only the forward objective can be computed",
                "objective forward",
                settings.objective,
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


def _check_heads(target: Target, settings: TrainingConfig) -> None:
    """Raise if latents have heads, and these cannot be trained as the settings say.

    Raises:
        ArgumentError: With what is wrong.
    """
    if not isinstance(target, CollapsedModel) or not target.sampled:
        return
    labels = listed([target.layout.variable(name).label for name in target.sampled])
    if kind_of(settings.kind).structure is not None:
        known = [name for name in KINDS if kind_of(name).structure is None]
        what = (
            f"a flow of this kind reads factors that the heads of {labels} take part in"
        )
        raise ArgumentError.at("kind", what, " or ".join(known), settings.kind)
    what = f"heads of discrete latents ({labels}) have no gradient by their draws"
    if not settings.amortised or settings.objective not in ("symmetric", "forward"):
        raise ArgumentError.at(
            "objective", what, "symmetric or forward", settings.objective
        )
    if settings.objective == "symmetric" and settings.gradient != "path":
        raise ArgumentError.at("gradient", what, "path", settings.gradient)
