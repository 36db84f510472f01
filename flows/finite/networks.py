r"""This file is one small network per node, of what the node reads.

The inputs of node i are the state columns of its latent parents, then its observed
columns, both normalised. With n of them the network is

    u_l = tanh(W_l u_{l-1} + b_l), l = 1 ... layers,      numbers = V u_layers + c,

and the constant c where a node reads nothing. Weights of a node are read by no other.
Nodes with as many inputs and columns are evaluated together, as one batched product.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..flow.structure import Structure

__all__ = ["NodeBatch", "NodeGroup", "NodeNetworks", "group_lengths"]

_LAST_LAYER_SCALE = 0.1


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the nodes of a group have in common."""

    size: int
    inputs: int


class NodeGroup(nn.Module):
    """The networks of nodes that have as many inputs and columns.

    Args:
        structure: blocks and edges.
        nodes: their positions.
        widths: of the network, from inputs to numbers.
        first: the numbers that all of them give at first, nearly.
        generator: source of the initial weights.
    """

    nodes: Tensor
    columns: Tensor
    inputs: Tensor

    def __init__(
        self,
        structure: Structure,
        nodes: tuple[int, ...],
        widths: tuple[int, ...],
        first: Float[Tensor, "node number"],
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        starts = [0]
        for size in structure.sizes:
            starts.append(starts[-1] + size)
        columns = [list(range(starts[i], starts[i + 1])) for i in nodes]
        inputs = [
            [c for j in block.latent_parents for c in range(starts[j], starts[j + 1])]
            + [structure.state_dim + c for c in block.observed_columns]
            for block in (structure.blocks[i] for i in nodes)
        ]
        for name, index in (("nodes", nodes), ("columns", columns), ("inputs", inputs)):
            array = torch.tensor(index, dtype=torch.long)
            self.register_buffer(name, array, persistent=False)
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(
            nn.Parameter(_uniform(len(nodes), *shape, generator)) for shape in shapes
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(len(nodes), 1, outputs)) for _, outputs in shapes
        )
        with torch.no_grad():
            self.weights[-1].mul_(_LAST_LAYER_SCALE)
            self.biases[-1].copy_(first.unsqueeze(1))

    def numbers(
        self, read: Float[Tensor, "batch column"], which: Tensor | None
    ) -> Float[Tensor, "node batch number"]:
        """What the networks give for rows of state columns, then observed ones.

        Args:
            read: all columns; those that a node does not read are not looked at.
            which: positions in the group; all if None.
        """
        inputs = self.inputs if which is None else self.inputs[which]
        hidden = read[:, inputs].transpose(0, 1)
        for number, (weight, bias) in enumerate(
            zip(self.weights, self.biases, strict=True)
        ):
            if number:
                hidden = torch.tanh(hidden)
            rows = slice(None) if which is None else which
            hidden = torch.baddbmm(bias[rows], hidden, weight[rows])
        return hidden


_Part = tuple[NodeGroup, Tensor | None]
"""A group, and positions in it, or None for all."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeBatch:
    """Nodes of as many columns, whatever they read.

    Args:
        parts: of groups.
        columns: state columns, node by node.
        nodes: their positions.
    """

    parts: tuple[_Part, ...]
    columns: Tensor
    nodes: Tensor

    @classmethod
    def of_parts(cls, parts: Sequence[_Part]) -> "NodeBatch":
        """The nodes of some parts."""
        rows = [
            (group, slice(None) if which is None else which) for group, which in parts
        ]
        return cls(
            tuple(parts),
            torch.cat([group.columns[which] for group, which in rows]),
            torch.cat([group.nodes[which] for group, which in rows]),
        )

    def numbers(
        self, read: Float[Tensor, "batch column"]
    ) -> Float[Tensor, "node batch number"]:
        """What the networks give for rows of state columns, then observed ones."""
        return torch.cat([group.numbers(read, which) for group, which in self.parts])


class NodeNetworks(nn.Module):
    """The networks of all nodes of a structure.

    Args:
        structure: blocks and edges.
        width: how many numbers a node of so many columns gets.
        first: those that a node of so many columns gets at first, nearly.
        hidden: units of a hidden layer.
        layers: hidden layers.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        width: Callable[[int], int],
        first: Callable[[int], Tensor],
        hidden: int,
        layers: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.groups = nn.ModuleList()
        place: dict[int, tuple[int, int]] = {}
        for number, (shape, nodes) in enumerate(_groups(structure).items()):
            widths = _widths(shape, width(shape.size), hidden, layers)
            values = torch.stack([first(shape.size) for _ in nodes])
            self.groups.append(NodeGroup(structure, nodes, widths, values, generator))
            place.update({node: (number, row) for row, node in enumerate(nodes)})
        self._num_rows = [len(group.nodes) for group in self._all()]
        self._generations = [
            _by_group([place[node] for node in nodes])
            for nodes in _generations(structure)
        ]

    def all_nodes(self) -> list["NodeBatch"]:
        """All nodes: where all state columns are known."""
        return _by_size([(group, None) for group in self._all()])

    def generations(self) -> list[list["NodeBatch"]]:
        """All nodes, such that parents come in an earlier list."""
        groups = self._all()
        found = []
        for generation in self._generations:
            parts: list[_Part] = []
            for number, rows in generation.items():
                group = groups[number]
                is_whole = len(rows) == self._num_rows[number]
                which = torch.tensor(rows, device=group.nodes.device)
                parts.append((group, None if is_whole else which))
            found.append(_by_size(parts))
        return found

    def _all(self) -> list[NodeGroup]:
        return [cast("NodeGroup", group) for group in self.groups]


def group_lengths(
    structure: Structure,
    *,
    width: Callable[[int], int],
    hidden: int,
    layers: int,
    prefix: str,
) -> dict[str, int]:
    """Lengths of the tensors of `NodeNetworks` by name, without making them."""
    found: dict[str, int] = {}
    for number, (shape, nodes) in enumerate(_groups(structure).items()):
        widths = _widths(shape, width(shape.size), hidden, layers)
        for layer, (inputs, outputs) in enumerate(pairwise(widths)):
            place = f"{prefix}groups.{number}"
            found[f"{place}.weights.{layer}"] = len(nodes) * inputs * outputs
            found[f"{place}.biases.{layer}"] = len(nodes) * outputs
    return found


def _groups(structure: Structure) -> dict[_Shape, tuple[int, ...]]:
    groups: dict[_Shape, list[int]] = {}
    for position, block in enumerate(structure.blocks):
        read = sum(structure.sizes[j] for j in block.latent_parents)
        shape = _Shape(block.size, read + len(block.observed_columns))
        groups.setdefault(shape, []).append(position)
    return {shape: tuple(nodes) for shape, nodes in groups.items()}


def _widths(shape: _Shape, numbers: int, hidden: int, layers: int) -> tuple[int, ...]:
    inner = (hidden,) * layers if shape.inputs else ()
    return (shape.inputs, *inner, numbers)


def _generations(structure: Structure) -> list[list[int]]:
    """Nodes by the length of the longest way to them from a node without parents."""
    depth: list[int] = []
    for block in structure.blocks:
        depth.append(1 + max((depth[j] for j in block.latent_parents), default=-1))
    return [
        [node for node, level in enumerate(depth) if level == each]
        for each in range(1 + max(depth))
    ]


def _by_size(parts: Sequence[_Part]) -> list[NodeBatch]:
    sizes: dict[int, list[_Part]] = {}
    for group, which in parts:
        sizes.setdefault(group.columns.shape[-1], []).append((group, which))
    return [NodeBatch.of_parts(same) for same in sizes.values()]


def _by_group(places: list[tuple[int, int]]) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for number, row in places:
        rows.setdefault(number, []).append(row)
    return rows


def _uniform(
    nodes: int, inputs: int, outputs: int, generator: torch.Generator | None
) -> Tensor:
    """Uniform weights of variance 1 / fan-in."""
    noise = 2.0 * torch.rand(nodes, inputs, outputs, generator=generator) - 1.0
    return noise * math.sqrt(3.0 / max(inputs, 1))
