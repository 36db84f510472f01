"""This file says what a flow is of: the model, its discrete latents summed out."""

from collections.abc import Sequence

import torch

from daphne_bridge.building import building

from ..errors import ModelError
from ..model.model import Model
from .choice import latents_to_sample
from .collapsed import CollapsedModel
from .cuts import cut_beyond
from .limits import MOST_COUNTED, MOST_VALUES, TooWideError
from .supports import UnboundedError
from .tables import DiscreteTables, discrete_tables

__all__ = ["FlowTarget", "collapse", "target_of"]

_CUT_DRAWS = 4096

FlowTarget = Model | CollapsedModel
"""A model, collapsed if it has discrete latents."""


def target_of(
    model: Model,
    *,
    widen: int = 1,
    may_sample: bool = False,
    sampled: tuple[str, ...] = (),
) -> FlowTarget:
    """Return the model, collapsed if it has discrete latents.

    Args:
        model: Any model.
        widen: Factor on the cuts of infinite supports; see `collapse`.
        may_sample: Whether latents that cannot be summed out may stay; see `collapse`.
        sampled: Names of discrete latents that stay in any case; see `collapse`.

    Raises:
        ModelError: If they cannot be summed out.
    """
    has_discrete = any(variable.is_discrete for variable in model.layout.latents)
    if not has_discrete:
        return model
    return collapse(model, widen=widen, may_sample=may_sample, sampled=sampled)


@building()
def collapse(
    model: Model,
    *,
    widen: int = 1,
    may_sample: bool = False,
    sampled: tuple[str, ...] = (),
) -> CollapsedModel:
    """Return a model with its discrete latents summed out.

    A latent with infinitely many values is cut off where nothing is left; where its
    parameters depend on continuous latents, well beyond what the prior draws, and
    `left_out` says what that leaves out.

    Args:
        model: With at least one discrete latent.
        widen: Factor on cuts: on those taken from draws, and on the log of the mass
            that the others leave out.
        may_sample: Whether latents that are too wide may stay, to be sampled.
        sampled: Names of discrete latents that stay in any case, in the order of the
            graph.

    Raises:
        ModelError: If the discrete latents depend on each other too widely, or the
            values of one are random themselves.
    """
    cuts: dict[str, int] = {}
    most_counted = MOST_COUNTED if may_sample else MOST_VALUES
    while True:
        try:
            tables = discrete_tables(
                model.lowered,
                cuts=cuts,
                widen=widen,
                sampled=sampled,
                most_counted=most_counted,
            )
            _check_sampled(model, tables, sampled)
            return CollapsedModel(model, tables, sampled)
        except TooWideError:
            everything = tuple(v.name for v in model.layout.latents if v.is_discrete)
            if not may_sample or sampled == everything:
                raise
            chosen = () if sampled else latents_to_sample(model)
            sampled = chosen or everything
        except UnboundedError as error:
            drawn = model.forgiving().sample_latents(
                _CUT_DRAWS, generator=torch.Generator().manual_seed(0)
            )
            column = drawn[:, model.layout.variable(error.name).start]
            largest = float(column[~torch.isnan(column)].max())
            cuts[error.name] = widen * cut_beyond(int(largest))


def _check_sampled(
    model: Model, tables: DiscreteTables, sampled: Sequence[str]
) -> None:
    """Raise if a position stands for different values at different configurations."""
    for name in sampled:
        categories = {form.categories for form in tables.lowered[name]}
        if categories != {model.categories(name)}:
            raise ModelError.at(
                model.graph.source,
                f"{model.graph.node(name).label} is too wide to be summed out, and "
                "its categories depend on other latents",
                "one list of categories",
            )
