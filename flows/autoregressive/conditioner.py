r"""This file is the networks that give each free column's mixture what it reads.

A column is a free column of a latent's block. It reads the free columns of the blocks
of its latent parents, earlier columns of its own block, and the observed columns of its
block, all shifted and scaled. Its own network,

    h_1 = silu(A_1 reads + b_1),   h_l = h_{l-1} + silu(A_l h_{l-1} + b_l),

ends in the logits, centres and scales of a mixture, at first nearly standard normal, as
residuals of a linear-Gaussian model are. Columns stand in the order of how
many they read, so that those that read equally many lie side by side: they are one
product of matrices, and so are all columns in the layers after the first. First weights
are stored packed, one row of hidden units for each read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..flow.settings import bounded
from ..flow.structure import Structure
from .mixture import Mixture

__all__ = ["Conditioner", "NetworkConfig", "Part", "reads_of"]

_SPREAD = 0.25
"""Share of the centres in the variance at first, which is 1: nearly a normal."""
_LEAST_SCALE = 1e-3
_BIAS = 0.5


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of the networks.

    Args:
        components: normals of a mixture.
        layers: layers of a network before the last one.
        hidden: units of each of them.
        last_layer_scale: scale of the last weights at first.
    """

    components: int = bounded(8, 1, 1000)
    layers: int = bounded(3, 1, 64)
    hidden: int = bounded(32, 1, 4096)
    last_layer_scale: float = bounded(0.1, 0, 100)


@dataclass(frozen=True, slots=True)
class _Run:
    """Columns side by side that read equally many: from, to, and their first read."""

    start: int
    stop: int
    width: int
    first: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the columns.

    Args:
        columns: positions among the free state columns, in the part's order.
        runs: where they stand.
    """

    columns: tuple[int, ...]
    runs: tuple[_Run, ...]


class Conditioner(nn.Module):
    """A network for each free column.

    Args:
        structure: blocks and edges.
        config: shape of the networks.
        generator: source of the first weights.
    """

    def __init__(
        self, structure: Structure, config: NetworkConfig, generator: torch.Generator
    ) -> None:
        super().__init__()
        reads = reads_of(structure)
        self._order = sorted(range(len(reads)), key=lambda c: (len(reads[c]), c))
        self._widths = [len(reads[c]) for c in self._order]
        self._starts = [sum(self._widths[:i]) for i in range(len(reads) + 1)]
        flat = [c for column in self._order for c in reads[column]]
        self.register_buffer("reads", torch.tensor(flat).long(), persistent=False)
        count, hidden = len(reads), config.hidden
        outputs = 3 * config.components

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        fans = torch.tensor(self._widths).clamp(min=1).sqrt()
        first = drawn(len(flat), hidden) / fans.repeat_interleave(
            torch.tensor(self._widths)
        ).unsqueeze(-1)
        root, inner = hidden**0.5, config.layers - 1
        last_bias = _first_numbers(config.components).expand(count, 3, -1)
        self.first = nn.Parameter(first)
        self.first_bias = nn.Parameter(_BIAS * drawn(count, hidden))
        self.hidden = nn.Parameter(drawn(inner, count, hidden, hidden) / root)
        self.hidden_bias = nn.Parameter(torch.zeros(inner, count, hidden))
        last = config.last_layer_scale * drawn(count, hidden, outputs) / root
        self.last = nn.Parameter(last)
        self.last_bias = nn.Parameter(last_bias.reshape(count, outputs).clone())
        self.whole = self.part(range(count))
        self.rounds = tuple(self.part(columns) for columns in _rounds(reads))

    def part(self, columns: Iterable[int]) -> Part:
        """The part of some columns, of all or of those that are drawn together."""
        chosen = set(columns)
        places = [i for i, column in enumerate(self._order) if column in chosen]
        runs = []
        for _, group in groupby(
            enumerate(places), lambda pair: (self._widths[pair[1]], pair[1] - pair[0])
        ):
            start, *_ = found = [place for _, place in group]
            run = _Run(start, found[-1] + 1, self._widths[start], self._starts[start])
            runs.append(run)
        return Part(tuple(self._order[i] for i in places), tuple(runs))

    @property
    def row_size(self) -> int:
        """Numbers that one row needs while all columns are looked at."""
        shapes = self.first_bias.numel() + 4 * self.last_bias.numel()
        return len(self.first) + 2 * shapes

    def forward(self, given: Float[Tensor, "batch given"], part: Part) -> Mixture:
        """Mixtures of a part's columns, [column, component, batch].

        Args:
            given: scaled free columns in state order, then scaled observed values;
                what no column of the part reads is not looked at.
            part: of the columns.
        """
        pieces = []
        for run in part.runs:
            count = run.stop - run.start
            which = slice(run.first, run.first + count * run.width)
            reads = self.reads[which]  # type: ignore[index]
            read = given.index_select(1, reads).view(len(given), count, run.width)
            weight = self.first[which].view(count, run.width, self.first.shape[1])
            bias = self.first_bias[run.start : run.stop, None]
            pieces.append(torch.baddbmm(bias, read.transpose(0, 1), weight))
        state = functional.silu(torch.cat(pieces))
        for weight, bias in zip(self.hidden, self.hidden_bias, strict=True):
            inner = torch.baddbmm(
                _rows(bias, part)[:, None], state, _rows(weight, part)
            )
            state = state + functional.silu(inner)
        ends = torch.baddbmm(
            _rows(self.last_bias, part)[:, None], state, _rows(self.last, part)
        )
        logits, centres, raw = ends.mT.contiguous().chunk(3, -2)
        scales = functional.softplus(raw) + _LEAST_SCALE
        return Mixture(torch.log_softmax(logits, -2), centres, scales)


def reads_of(structure: Structure) -> tuple[tuple[int, ...], ...]:
    """What each free column in state order reads: free columns, then observed ones.

    Observed column c is number ``free_dim`` + c.
    """
    sizes = [len(block.free_columns) for block in structure.blocks]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    reads: list[tuple[int, ...]] = []
    for block, start, size in zip(structure.blocks, starts, sizes, strict=True):
        parents = [starts[j] + k for j in block.latent_parents for k in range(sizes[j])]
        observed = [structure.free_dim + c for c in block.observed_columns]
        for own in range(size):
            reads.append((*parents, *range(start, start + own), *observed))
    return tuple(reads)


def _first_numbers(components: int) -> Tensor:
    """Logits, centres and raw scales of a mixture of mean 0 and variance 1."""
    centres = torch.linspace(-1.0, 1.0, components) * (components > 1)
    if components > 1:
        centres *= (_SPREAD / centres.square().mean()).sqrt()
    scale = (1.0 - centres.square().mean()).sqrt() - _LEAST_SCALE
    raw = scale.expm1().log()
    return torch.stack([torch.zeros_like(centres), centres, raw.expand(components)])


def _rounds(reads: Sequence[Sequence[int]]) -> list[list[int]]:
    """Columns in rounds; each reads columns of earlier rounds alone."""
    numbers: list[int] = []
    for needed in reads:
        latent = [numbers[c] for c in needed if c < len(reads)]
        numbers.append(1 + max(latent, default=-1))
    rounds: list[list[int]] = [[] for _ in range(1 + max(numbers, default=-1))]
    for column, number in enumerate(numbers):
        rounds[number].append(column)
    return rounds


def _rows(tensor: Tensor, part: Part) -> Tensor:
    """Entries of a part's columns."""
    slices = [tensor[run.start : run.stop] for run in part.runs]
    return slices[0] if len(slices) == 1 else torch.cat(slices)
