r"""This file sets natural gradient steps beside plain ones, to the same bound.

Both begin with the same structured Gaussian of one data set and climb the same bound,
E_q[log p(z, x) - log q(z)]: natural steps on the sites (`structured_gaussian/natural`),
or Adam on their numbers, by reparametrised draws. The bound is read on fixed base
points, whose time does not count for the plain steps.

Reference:
    Lin, Hubacher, Khan, "Variational Message Passing with Structured Inference
    Networks", ICLR 2018, section 5.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..flow.building import build_structure, inverse_of
from ..flow.kinds import build_flow, kind_of
from ..model.model import Model
from ..structured_gaussian.flow import StructuredGaussianFlow
from ..structured_gaussian.natural import Bound, climb
from ..training.batches import Batch
from ..training.losses import reverse_kl

__all__ = ["Height", "NaturalConfig", "climbs", "compare_steps"]

_KIND = "structured-gaussian"
_DRAWS = 4_000
_EQUAL_NATS = 5e-3
"""Bounds so near are the same: natural steps leave negative curvatures out."""


@dataclass(frozen=True, slots=True)
class NaturalConfig:
    """How long plain steps go on.

    Args:
        steps: of Adam.
        rows: draws of each.
        learning_rate: of Adam at first; it falls by a cosine.
        every: steps between two looks at the bound.
    """

    steps: int = 2000
    rows: int = 64
    learning_rate: float = 5e-2
    every: int = 50


@dataclass(frozen=True, slots=True)
class Height:
    """The bound on the way.

    Args:
        iteration: steps so far.
        seconds: of processor time so far.
        bound: in nats.
    """

    iteration: int
    seconds: float
    bound: float


def compare_steps(
    models: Mapping[str, Model],
    config: NaturalConfig,
    *,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Both ways for each model, and where natural steps have what plain ones reach.

    Args:
        models: by the program's name, with their data.
        config: of the plain steps.
        note: told what is done.
    """
    programs = {}
    for name, model in models.items():
        natural, plain = climbs(model, config)
        wanted = plain[-1].bound
        high = [each for each in natural if each.bound >= wanted - _EQUAL_NATS]
        first = high[0] if high else natural[-1]
        note(
            f"{name}: {plain[-1].iteration} plain steps in {plain[-1].seconds:.1f} s, "
            f"bound {wanted:.4f}; {first.iteration} natural ones in "
            f"{first.seconds:.2g} s, bound {first.bound:.4f}"
        )
        programs[name] = {
            "natural": [asdict(each) for each in natural],
            "plain": [asdict(each) for each in plain],
            "natural_reaches": asdict(first),
            "plain_reaches": wanted,
        }
    return {"programs": programs}


def climbs(model: Model, config: NaturalConfig) -> tuple[list[Height], list[Height]]:
    """The bound along natural steps and along plain ones, from the same flow.

    Args:
        model: with its data.
        config: of the plain steps.
    """
    data = model.observation()
    natural = []
    started = time.process_time()
    for each in climb(_begun(model), model, data):
        seconds = time.process_time() - started
        natural.append(Height(each.iteration, seconds, each.bound))
    return natural, _plain(_begun(model), model, config)


def _plain(
    flow: StructuredGaussianFlow, model: Model, config: NaturalConfig
) -> list[Height]:
    """Adam on the free energy."""
    data = model.observation()
    bound = Bound(flow, model, data)
    adam = torch.optim.Adam(flow.parameters(), lr=config.learning_rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)
    generator = torch.Generator().manual_seed(0)
    rows = data.expand(config.rows, -1)
    found, seconds = [Height(0, 0.0, bound.value())], 0.0
    for iteration in range(1, 1 + config.steps):
        started = time.process_time()
        base = flow.sample_base(config.rows, generator=generator)
        nothing = base.new_zeros(config.rows, 0)
        batch = Batch(nothing, nothing, rows, base[:, 0], base)
        adam.zero_grad()
        loss = reverse_kl(model, flow, batch).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        falling.step()
        seconds += time.process_time() - started
        if iteration % config.every == 0:
            found.append(Height(iteration, seconds, bound.value()))
    return found


def _begun(model: Model) -> StructuredGaussianFlow:
    """A structured Gaussian of a model's data, at the prior where it is learned."""
    kind = kind_of(_KIND)
    assert kind.structure is not None  # noqa: S101 (it reads the graph)
    data = model.observation()
    edges = build_structure(inverse_of(model.graph, model.layout), model.layout)
    structure = kind.structure(edges, model.graph, model.layout, data)
    flow = build_flow(structure, kind=_KIND).to(torch.float64)
    draws = model.sample(_DRAWS, generator=torch.Generator().manual_seed(0))
    free = model.unconstrain(draws.latents)[0]
    flow.fit_normalisation(free, data.expand(_DRAWS, -1))
    assert isinstance(flow, StructuredGaussianFlow)  # noqa: S101 (it is of this kind)
    return flow
