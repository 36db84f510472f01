r"""This file builds the networks the structured flow is compared with.

All are the gated network of `vector_field.py` without blocks: with u_0 = (state,
observed values, t) and a mask M_l per layer,

    a_l = (W_l ⊙ M_l u_{l-1} + b_l) * sigmoid(g_l t + k_l) + c_l t,
    u_l = tanh(a_l),   velocity = a_L.

- ``full``: four layers as wide as the state, no masks; t is an input too.
- ``ffjord``: four layers of 64 hidden units, no masks.
- ``faithful``: as ``full`` with masks from the inverse, augmented as the paper's code
  does: a nuisance reads what its node reads and the nuisances of the node's parents; a
  node reads its own nuisances and its parents, not their nuisances.
- ``random``: as many weights per layer as ``faithful`` on state columns and on observed
  columns, at random places; every column reads itself.

Weights are stored dense, masked when used. The published code also has a trainable end
time that never receives a gradient: it is kept fixed here, and counted.

References:
    Weilbach et al., AISTATS 2020, section 4.2.
    Grathwohl et al., "FFJORD", ICLR 2019.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import ArgumentError
from ..flow.structure import Structure
from .engine import Engine
from .flow import ConditionalFlow
from .vector_field import FieldConfig, VectorField

__all__ = [
    "BASELINES",
    "GatedField",
    "build_baseline",
    "build_baseline_field",
    "published_masks",
    "published_parameter_count",
    "random_masks",
]

BASELINES = ("faithful", "full", "random", "ffjord")

_LAYERS = 4
_FFJORD_HIDDEN = 64
_LAST_LAYER_SCALE = 0.1
_VECTORS = 4  # bias, time bias, gate rate, gate offset


class GatedField(nn.Module):
    """Gated network with dense weights under masks.

    Args:
        structure: names and order of the state columns; its edges are not used.
        masks: per layer, which weights exist, [output, input]. Inputs of the first
            layer are state, observed values and time.
        generator: source of the initial weights.
    """

    node: Tensor

    def __init__(
        self,
        structure: Structure,
        masks: Sequence[Bool[Tensor, "output input"]],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        first = structure.state_dim + structure.observed_dim + 1
        widths = [first, *(mask.shape[0] for mask in masks)]
        inputs = [mask.shape[1] for mask in masks]
        if inputs != widths[:-1] or widths[-1] != structure.state_dim:
            raise ArgumentError.at(
                "baseline",
                "masks do not chain",
                f"inputs {widths[:-1]} and {structure.state_dim} outputs",
                f"inputs {inputs} and {widths[-1]} outputs",
            )
        self.structure = structure
        self.num_nodes = len(structure.blocks)
        self.num_layers = len(masks)
        self.register_buffer(
            "node", torch.tensor(structure.state_node), persistent=False
        )
        for number, mask in enumerate(masks):
            self.register_buffer(f"mask_{number}", mask, persistent=False)
        self.weights = nn.ParameterList(
            nn.Parameter(_initial(mask, number == len(masks) - 1, generator))
            for number, mask in enumerate(masks)
        )
        outputs = widths[1:]
        self.bias = _vectors(outputs, 0.5, 0.0, generator)
        self.time_bias = _vectors(outputs, 0.0, 0.0, generator)
        self.gate_rate = _vectors(outputs, 1.0, 0.0, generator)
        self.gate_offset = _vectors(outputs, 1.0, 1.0, generator)
        with torch.no_grad():
            self.bias[-1].zero_()
        self.end_time = nn.Parameter(torch.ones(1), requires_grad=False)

    def velocity(
        self,
        time: Float[Tensor, ""],
        state: Float[Tensor, "batch state"],
        observed: Float[Tensor, "batch observed"],
    ) -> Float[Tensor, "batch state"]:
        """The vector field at one time for all rows."""
        times = time.to(state).expand(state.shape[0], 1)
        hidden = torch.cat([state, observed, times], -1)
        for number, masked in enumerate(self.masked_weights()):
            linear = nn.functional.linear(hidden, masked, self.bias[number])
            rate, offset = self.gate_rate[number], self.gate_offset[number]
            gate = torch.sigmoid(time * rate + offset)
            active = linear * gate + self.time_bias[number] * time
            hidden = torch.tanh(active) if number < self.num_layers - 1 else active
        return hidden

    def masked_weights(self) -> list[Float[Tensor, "output input"]]:
        """Weights of each layer, 0 where none exists."""
        return [
            torch.where(self._mask(number), weight, 0.0)
            for number, weight in enumerate(self.weights)
        ]

    def num_parameters(self) -> int:
        """Weights that exist, biases, gates and the end time."""
        outputs = sum(self._mask(n).shape[0] for n in range(self.num_layers))
        return self.multiply_adds() + _VECTORS * outputs + self.end_time.numel()

    def multiply_adds(self) -> int:
        """Multiply-adds of one evaluation for one row, for weights that exist."""
        return sum(int(self._mask(n).sum()) for n in range(self.num_layers))

    def _mask(self, number: int) -> Tensor:
        return cast("Tensor", getattr(self, f"mask_{number}"))


def build_baseline_field(
    name: str, structure: Structure, *, seed: int = 0
) -> GatedField:
    """The network of a baseline.

    Args:
        name: one of `BASELINES`.
        structure: state columns and, for ``faithful`` and ``random``, edges.
        seed: of the weights, and of the places of ``random``.

    Raises:
        ArgumentError: if there is no such baseline.
    """
    generator = torch.Generator().manual_seed(seed)
    state, observed = structure.state_dim, structure.observed_dim
    if name == "faithful":
        masks = published_masks(structure)
    elif name == "random":
        masks = random_masks(structure, generator=generator)
    elif name == "full":
        inputs = [state + observed + 1, *[state] * (_LAYERS - 1)]
        masks = tuple(torch.ones(state, width, dtype=torch.bool) for width in inputs)
    elif name == "ffjord":
        outputs = [*[_FFJORD_HIDDEN] * (_LAYERS - 1), state]
        inputs = [state + observed + 1, *outputs[:-1]]
        masks = tuple(
            torch.ones(rows, columns, dtype=torch.bool)
            for rows, columns in zip(outputs, inputs, strict=True)
        )
        masks[0][:, -1] = False
    else:
        known = f"one of {', '.join(BASELINES)}"
        raise ArgumentError.at("baseline", "unknown", known, name)
    return GatedField(structure, masks, generator=generator)


def build_baseline(
    name: str, structure: Structure, *, engine: Engine, seed: int = 0
) -> ConditionalFlow:
    """A conditional flow with a baseline's network in the place of its field.

    Only the engines of `paper_engine.py` and `pushed_noise.py` can solve it.

    Args:
        name: one of `BASELINES`.
        structure: state columns and edges.
        engine: how it is solved.
        seed: of the network.
    """
    config = FieldConfig(layers=2, hidden=0)
    flow = ConditionalFlow(structure, config, seed).solved_by(engine)
    flow.field = cast("VectorField", build_baseline_field(name, structure, seed=seed))
    return flow


def published_masks(structure: Structure) -> tuple[Bool[Tensor, "output input"], ...]:
    """Masks of the faithful baseline, self-loops included; none reads time."""
    state, observed = structure.state_dim, structure.observed_dim
    starts = [0]
    for block in structure.blocks:
        starts.append(starts[-1] + block.size)
    hidden = torch.zeros(state, state, dtype=torch.bool)
    given = torch.zeros(state, observed + 1, dtype=torch.bool)
    for i, block in enumerate(structure.blocks):
        rows = slice(starts[i], starts[i + 1])
        nuisances = slice(starts[i] + len(block.free_columns), starts[i + 1])
        hidden[rows, rows] = True
        given[rows, list(block.observed_columns)] = True
        for j in block.latent_parents:
            parent = structure.blocks[j]
            free = slice(starts[j], starts[j] + len(parent.free_columns))
            hidden[rows, free] = True
            hidden[nuisances, starts[j] : starts[j + 1]] = True
    return (torch.cat([hidden, given], -1), *[hidden.clone()] * (_LAYERS - 1))


def random_masks(
    structure: Structure, *, generator: torch.Generator
) -> tuple[Bool[Tensor, "output input"], ...]:
    """Masks with as many weights as `published_masks` at random places.

    Every column keeps its self-loop.
    """
    state = structure.state_dim
    masks = []
    for model in published_masks(structure):
        mask = torch.zeros_like(model)
        loops = torch.arange(state)
        mask[loops, loops] = True
        apart = ~torch.eye(state, dtype=torch.bool)
        _fill(mask[:, :state], apart, int(model[:, :state].sum()) - state, generator)
        if model.shape[1] > state:
            given = mask[:, state:-1]
            count = int(model[:, state:-1].sum())
            _fill(given, torch.ones_like(given), count, generator)
        masks.append(mask)
    return tuple(masks)


def published_parameter_count(structure: Structure) -> int:
    """Number the paper states for the faithful network.

    Self-loops and the end time are left out; biases and gates are counted.
    """
    masks = published_masks(structure)
    loops = structure.state_dim * len(masks)
    vectors = _VECTORS * structure.state_dim * len(masks)
    return sum(int(mask.sum()) for mask in masks) - loops + vectors


def _fill(
    mask: Tensor, allowed: Tensor, count: int, generator: torch.Generator
) -> None:
    """Sets ``count`` of the allowed entries, drawn without replacement."""
    places = allowed.nonzero()
    chosen = places[torch.randperm(len(places), generator=generator)[:count]]
    mask[chosen[:, 0], chosen[:, 1]] = True


def _initial(mask: Tensor, is_last: bool, generator: torch.Generator | None) -> Tensor:  # noqa: FBT001
    """Uniform weights of variance 1 / fan-in where the mask has them."""
    fan = mask.sum(-1, keepdim=True).clamp(min=1).to(torch.get_default_dtype())
    noise = 2.0 * torch.rand(mask.shape, generator=generator) - 1.0
    scale = (3.0 / fan).sqrt() * (_LAST_LAYER_SCALE if is_last else 1.0)
    return torch.where(mask, noise * scale, 0.0)


def _vectors(
    sizes: Sequence[int],
    spread: float,
    centre: float,
    generator: torch.Generator | None,
) -> nn.ParameterList:
    return nn.ParameterList(
        nn.Parameter(
            centre + spread * (2.0 * torch.rand(size, generator=generator) - 1.0)
        )
        for size in sizes
    )
