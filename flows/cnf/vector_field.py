r"""This file is the masked network f(t, latents, observed) of the flow.

With u_0 the state and L layers, layer l is

    a_l = (W_l u_{l-1} + b_l) * sigmoid(g_l t + k_l) + c_l t,
    u_l = tanh(a_l)  (plus u_{l-1} for 1 < l < L with residual connections),
    f = a_L.

W_1 also has columns for the observed values. W_l has the blocks of
`structure.Packing` only, and only these are parameters. State block i has s_i columns,
hidden block i has h_i units in every hidden layer: h_i need not equal s_i, so a flow
can have rich conditionals without nuisance columns, whose number enters the cost of
the divergence. h_i = s_i is the layout of the paper.

Parameters: ``weights[l]`` (packed), ``observed_weight`` (packed), and four vectors that
run over the outputs of all layers, layer by layer: ``bias`` b, ``time_bias`` c,
``gate_rate`` g, ``gate_offset`` k.

References:
    Grathwohl et al., "FFJORD", ICLR 2019 (the gates, there called concatsquash).
    Weilbach et al., AISTATS 2020, equation 6 (masks).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import ArgumentError
from ..flow.packing import Packing
from ..flow.settings import bounded
from ..flow.structure import Structure

__all__ = [
    "DenseField",
    "FieldConfig",
    "Gates",
    "SizeGroup",
    "VectorField",
    "evaluate_field",
    "hidden_sizes",
]


@dataclass(frozen=True, slots=True)
class FieldConfig:
    """Shape of the network.

    Args:
        layers: number L of layers, at least 2.
        hidden: hidden units per scalar latent and layer; 0 makes each hidden block as
            wide as its state block.
        residual: add the input of each hidden layer (after the first) to its output.
        last_layer_scale: factor on the initial weights of the last layer.
    """

    layers: int = bounded(4, 2, 64)
    hidden: int = bounded(16, 0, 1024)
    residual: bool = False
    last_layer_scale: float = bounded(0.1, 0, 1e6)


@dataclass(frozen=True, slots=True)
class Gates:
    """Gate factors and time biases of all layers at given times.

    Args:
        factors: per layer, sigmoid(g t + k), times the direction's sign in the last.
        drifts: per layer, c t, times the direction's sign in the last.
    """

    factors: tuple[Tensor, ...]
    drifts: tuple[Tensor, ...]

    def split(self, size: int) -> list["Gates"]:
        """The gates of ``size`` times at a time, along the first axis."""
        return [
            Gates(tuple(factors), tuple(drifts))
            for factors, drifts in zip(
                zip(*(torch.split(f, size) for f in self.factors), strict=True),
                zip(*(torch.split(d, size) for d in self.drifts), strict=True),
                strict=True,
            )
        ]

    @classmethod
    def join(cls, parts: "Sequence[Gates]") -> "Gates":
        """Gates joined along the first axis; undone by `split`."""
        return cls(
            tuple(torch.cat(f) for f in zip(*(p.factors for p in parts), strict=True)),
            tuple(torch.cat(d) for d in zip(*(p.drifts for p in parts), strict=True)),
        )


@dataclass(frozen=True, slots=True)
class SizeGroup:
    """Nodes whose blocks have equal sizes, so that they can be batched.

    Args:
        nodes: their positions.
        state_columns: their columns in the state, node by node.
        hidden_columns: their columns in a hidden layer, node by node.
        diagonal: per layer their diagonal blocks, [node, output, input].
    """

    nodes: Int[Tensor, " node"]
    state_columns: Int[Tensor, " state"]
    hidden_columns: Int[Tensor, " hidden"]
    diagonal: tuple[Float[Tensor, "node _ _"], ...]


@dataclass(frozen=True, slots=True)
class DenseField:
    """The network with its weights scattered into matrices, for one or more solves.

    Args:
        weights: per layer, [output, input].
        observed_weight: first layer's weights on observed values, [output, observed].
        bias: per layer.
        time_bias: all layers joined.
        gate_rate: all layers joined.
        gate_offset: all layers joined.
        widths: outputs per layer.
        residual: whether hidden layers have residual connections.
        groups: diagonal blocks, by size.
        num_nodes: number of latents.
    """

    weights: tuple[Tensor, ...]
    observed_weight: Tensor
    bias: tuple[Tensor, ...]
    time_bias: Tensor
    gate_rate: Tensor
    gate_offset: Tensor
    widths: tuple[int, ...]
    residual: bool
    groups: tuple[SizeGroup, ...]
    num_nodes: int

    def gates(self, times: Tensor, sign: Tensor) -> Gates:
        """Gates at ``times``, for rows whose velocity is multiplied by ``sign``.

        Both are broadcast against each other; outputs have one axis more.
        """
        columns = times.unsqueeze(-1)
        factors = torch.sigmoid(columns * self.gate_rate + self.gate_offset)
        drifts = columns * self.time_bias
        factor = list(torch.split(factors, list(self.widths), -1))
        drift = list(torch.split(drifts, list(self.widths), -1))
        factor[-1] = factor[-1] * sign.unsqueeze(-1)
        drift[-1] = drift[-1] * sign.unsqueeze(-1)
        return Gates(tuple(factor), tuple(drift))

    def observed_term(
        self, observed: Float[Tensor, "*batch observed"]
    ) -> Float[Tensor, "*batch hidden"]:
        """First layer's part that does not change during a solve."""
        return nn.functional.linear(observed, self.observed_weight, self.bias[0])


class VectorField(nn.Module):
    """Masked, gated network; parameters are packed blocks.

    Args:
        structure: blocks and edges.
        config: layers, hidden units, residual connections.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        structure: Structure,
        config: FieldConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if config.layers < 2:
            raise ArgumentError.at(
                "vector field", "layers", "at least 2", str(config.layers)
            )
        self.structure = structure
        self.config = config
        self.hidden = hidden_sizes(structure, config.hidden)
        state = structure.sizes
        inputs = [state, *[self.hidden] * (config.layers - 1)]
        outputs = [*[self.hidden] * (config.layers - 1), state]
        self.packings = tuple(
            structure.packing(rows, columns)
            for rows, columns in zip(outputs, inputs, strict=True)
        )
        self.observed_packing = structure.observed_packing(self.hidden)
        self.widths = tuple(sum(rows) for rows in outputs)
        width = sum(self.widths)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(packing.size)) for packing in self.packings
        )
        self.observed_weight = nn.Parameter(torch.empty(self.observed_packing.size))
        self.bias = nn.Parameter(torch.zeros(width))
        self.time_bias = nn.Parameter(torch.zeros(width))
        self.gate_rate = nn.Parameter(torch.zeros(width))
        self.gate_offset = nn.Parameter(torch.zeros(width))
        self._register_indices()
        self._initialise(generator)

    def _register_indices(self) -> None:
        packings = (*self.packings, self.observed_packing)
        for number, packing in enumerate(packings):
            self.register_buffer(
                f"dense_index_{number}", packing.dense_index(), persistent=False
            )
        sizes = list(zip(self.structure.sizes, self.hidden, strict=True))
        self.group_sizes = tuple(dict.fromkeys(sizes))
        for number, size in enumerate(self.group_sizes):
            nodes = [i for i, other in enumerate(sizes) if other == size]
            arrays = {
                "nodes": torch.tensor(nodes),
                "state": _columns(self.structure.sizes, nodes),
                "hidden": _columns(self.hidden, nodes),
            }
            for layer, packing in enumerate(self.packings):
                arrays[f"diagonal_{layer}"] = packing.last_block_index(nodes)
            for name, array in arrays.items():
                self.register_buffer(f"group_{number}_{name}", array, persistent=False)

    def _initialise(self, generator: torch.Generator | None) -> None:
        """Uniform weights of variance 1 / fan-in; a small last layer."""
        observed_fan = [
            len(block.observed_columns) + sum(len(c) for c in columns)
            for block, columns in zip(
                self.structure.blocks, self.packings[0].pattern, strict=True
            )
        ]
        with torch.no_grad():
            for layer, packing in enumerate(self.packings):
                fan = packing.fan_in().to(torch.float32)
                if layer == 0:
                    fan = _per_entry(packing, observed_fan)
                scale = (3.0 / fan).sqrt()
                if layer == len(self.packings) - 1:
                    scale = scale * self.config.last_layer_scale
                self.weights[layer].copy_(_uniform(packing.size, generator) * scale)
            fan = _per_entry(self.observed_packing, observed_fan)
            noise = _uniform(self.observed_packing.size, generator)
            self.observed_weight.copy_(noise * (3.0 / fan).sqrt())
            self.gate_rate.copy_(_uniform(self.gate_rate.numel(), generator))
            self.gate_offset.copy_(_uniform(self.gate_offset.numel(), generator) + 1.0)
            hidden = sum(self.widths[:-1])
            self.bias[:hidden].copy_(0.5 * _uniform(hidden, generator))

    def dense(self) -> DenseField:
        """The network with dense matrices; gradients flow to the packed weights."""
        matrices = [
            self._scatter(weight, packing, layer)
            for layer, (weight, packing) in enumerate(
                zip(self.weights, self.packings, strict=True)
            )
        ]
        observed = self._scatter(
            self.observed_weight, self.observed_packing, len(self.packings)
        )
        return DenseField(
            weights=tuple(matrices),
            observed_weight=observed,
            bias=torch.split(self.bias, list(self.widths)),
            time_bias=self.time_bias,
            gate_rate=self.gate_rate,
            gate_offset=self.gate_offset,
            widths=self.widths,
            residual=self.config.residual,
            groups=tuple(self._group(n) for n in range(len(self.group_sizes))),
            num_nodes=len(self.structure.blocks),
        )

    def _scatter(self, packed: Tensor, packing: Packing, number: int) -> Tensor:
        index = cast("Tensor", getattr(self, f"dense_index_{number}"))
        flat = packed.new_zeros(packing.num_rows * packing.num_columns)
        return flat.scatter(0, index, packed).view(packing.num_rows, -1)

    def _group(self, number: int) -> SizeGroup:
        def array(name: str) -> Tensor:
            return cast("Tensor", getattr(self, f"group_{number}_{name}"))

        return SizeGroup(
            nodes=array("nodes"),
            state_columns=array("state"),
            hidden_columns=array("hidden"),
            diagonal=tuple(
                weight[array(f"diagonal_{layer}")]
                for layer, weight in enumerate(self.weights)
            ),
        )

    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())


def evaluate_field(
    field: DenseField,
    state: Float[Tensor, "*batch state"],
    observed_term: Float[Tensor, "*batch hidden"],
    gates: Gates,
) -> tuple[Float[Tensor, "*batch state"], tuple[Tensor, ...]]:
    """The velocity, with the tanh values of the hidden layers (for the divergence).

    Args:
        field: the network.
        state: where.
        observed_term: `DenseField.observed_term` of the rows' observed values.
        gates: at the rows' times.
    """
    values: list[Tensor] = []
    hidden = state
    last = len(field.weights) - 1
    for layer, weight in enumerate(field.weights):
        if layer == 0:
            linear = observed_term + hidden @ weight.T
        else:
            linear = nn.functional.linear(hidden, weight, field.bias[layer])
        active = torch.addcmul(gates.drifts[layer], linear, gates.factors[layer])
        if layer == last:
            return active, tuple(values)
        value = torch.tanh(active)
        values.append(value)
        hidden = hidden + value if field.residual and layer > 0 else value
    raise AssertionError("a field has at least two layers")


def hidden_sizes(structure: Structure, hidden: int) -> tuple[int, ...]:
    """Hidden units per block.

    These are ``hidden``, or the number of state columns where that is larger; a vector
    latent gets ``hidden // 2`` more than its columns. With 0, the state's sizes.
    """
    if hidden < 0:
        raise ArgumentError.at("vector field", "hidden", "0 or more", str(hidden))
    if hidden == 0:
        return structure.sizes
    sizes = []
    for block in structure.blocks:
        extra = hidden // 2 if len(block.free_columns) > 1 else 0
        sizes.append(max(hidden, block.size + extra))
    return tuple(sizes)


def _columns(sizes: Sequence[int], nodes: Sequence[int]) -> Tensor:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return torch.tensor([c for i in nodes for c in range(starts[i], starts[i + 1])])


def _per_entry(packing: Packing, per_row_block: Sequence[int]) -> Tensor:
    parts = [
        torch.full((height * sum(len(c) for c in columns),), float(value))
        for height, columns, value in zip(
            packing.rows, packing.pattern, per_row_block, strict=True
        )
    ]
    return torch.cat(parts) if parts else torch.zeros(0)


def _uniform(size: int, generator: torch.Generator | None) -> Tensor:
    return 2.0 * torch.rand(size, generator=generator) - 1.0
