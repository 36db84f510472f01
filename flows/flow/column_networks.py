r"""This file is networks of one shape, one for each column, that read what they may.

    h_1 = silu(A_1 reads + b_1),   h_l = h_{l-1} + silu(A_l h_{l-1} + b_l),

and a linear layer on top. Columns stand in the order of how many numbers they read, so
that those that read equally many lie side by side: they are one product of matrices,
and so are all columns in the layers after the first. First weights are stored packed,
one row of hidden units for each read.

What a network reads may nearly be one number many times over, as data around a level
that could be anywhere: what tells them apart is then a hundredth of each, and first
weights that are independent hardly see it. `whiten` makes half of the first units of
A_1 C^-1/2, C the covariance of the reads over draws, which see all directions alike;
the other half still sees what is large.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from .directions import MOST_NUMBERS, usable, whitening

__all__ = [
    "WHITENING_DRAWS",
    "ColumnNetworks",
    "NetworkShape",
    "Part",
    "lengths_of",
    "rounds_of",
]

_BIAS = 0.5
WHITENING_DRAWS = 10_000
"""That are enough to whiten by."""


class NetworkShape(Protocol):
    """Shape of the networks."""

    @property
    def layers(self) -> int:
        """Layers of a network before the last one."""

    @property
    def hidden(self) -> int:
        """Units of each of them."""

    @property
    def last_layer_scale(self) -> float:
        """Scale of the last weights at first."""


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
        columns: their numbers, in the part's order.
        runs: where they stand.
    """

    columns: tuple[int, ...]
    runs: tuple[_Run, ...]


class ColumnNetworks(nn.Module):
    """A network for each column.

    Args:
        reads: what each column reads, positions in a row of numbers.
        shape: of the networks.
        last_bias: what a network gives at first, nearly.
        generator: source of the first weights.

    Attributes:
        starts: first read of each column in the order of the parameters, and the end.
    """

    def __init__(
        self,
        reads: Sequence[Sequence[int]],
        shape: NetworkShape,
        last_bias: Float[Tensor, " output"],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self._order = sorted(range(len(reads)), key=lambda c: (len(reads[c]), c))
        self._widths = [len(reads[c]) for c in self._order]
        self.starts = [sum(self._widths[:i]) for i in range(len(reads) + 1)]
        flat = [c for column in self._order for c in reads[column]]
        self.register_buffer("reads", torch.tensor(flat).long(), persistent=False)
        count, hidden, outputs = len(reads), shape.hidden, len(last_bias)

        def drawn(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator)

        widths = torch.tensor(self._widths).long()
        fans = widths.clamp(min=1).sqrt()
        first = drawn(len(flat), hidden) / fans.repeat_interleave(widths).unsqueeze(-1)
        root, inner = hidden**0.5, shape.layers - 1
        self.first = nn.Parameter(first)
        self.first_bias = nn.Parameter(_BIAS * drawn(count, hidden))
        self.hidden = nn.Parameter(drawn(inner, count, hidden, hidden) / root)
        self.hidden_bias = nn.Parameter(torch.zeros(inner, count, hidden))
        last = shape.last_layer_scale * drawn(count, hidden, outputs) / root
        self.last = nn.Parameter(last)
        self.last_bias = nn.Parameter(last_bias.expand(count, outputs).clone())
        self.whole = self.part(range(count))

    def part(self, columns: Iterable[int]) -> Part:
        """The part of some columns, of all or of those that are drawn together."""
        chosen = set(columns)
        places = [i for i, column in enumerate(self._order) if column in chosen]
        runs = []
        for _, group in groupby(
            enumerate(places), lambda pair: (self._widths[pair[1]], pair[1] - pair[0])
        ):
            start, *_ = found = [place for _, place in group]
            run = _Run(start, found[-1] + 1, self._widths[start], self.starts[start])
            runs.append(run)
        return Part(tuple(self._order[i] for i in places), tuple(runs))

    def outputs(
        self, given: Float[Tensor, "batch given"], part: Part
    ) -> Float[Tensor, "column batch output"]:
        """What the networks of a part's columns give, in the part's order.

        Args:
            given: rows of numbers; what no column of the part reads is not looked at.
            part: of the columns.
        """
        if not part.runs:
            return given.new_zeros(0, len(given), self.last_bias.shape[-1])
        state = self._entered(given, part)
        for weight, bias in zip(self.hidden, self.hidden_bias, strict=True):
            inner = torch.baddbmm(
                _rows(bias, part)[:, None], state, _rows(weight, part)
            )
            state = state + functional.silu(inner)
        return torch.baddbmm(
            _rows(self.last_bias, part)[:, None], state, _rows(self.last, part)
        )

    def numbers_of_row(self, copies: int) -> int:
        """Numbers that one row needs.

        Args:
            copies: of what the networks end in.
        """
        shapes = self.first_bias.numel() + copies * self.last_bias.numel()
        return len(self.first) + 2 * shapes

    def _entered(self, given: Tensor, part: Part) -> Tensor:
        """Units of the first layer."""
        pieces = []
        for run in part.runs:
            count = run.stop - run.start
            which = slice(run.first, run.first + count * run.width)
            reads = self.reads[which]  # type: ignore[index]
            read = given.index_select(1, reads).view(len(given), count, run.width)
            weight = self.first[which].view(count, run.width, self.first.shape[1])
            bias = self.first_bias[run.start : run.stop, None]
            pieces.append(torch.baddbmm(bias, read.transpose(0, 1), weight))
        return functional.silu(torch.cat(pieces))

    @torch.no_grad()
    def whiten(self, given: Float[Tensor, "draw given"]) -> None:
        """Make half of the first units see all directions of what they read alike.

        Before training, and once.

        Args:
            given: draws of the rows of numbers that `outputs` is given, scaled.
        """
        rows = usable(given)
        if len(rows) < 2 or not self.starts[-1]:
            return
        covariance = torch.cov(rows.T).reshape(2 * given.shape[1:])
        for run in self.whole.runs:
            if not 1 < run.width <= MOST_NUMBERS:
                continue
            for column in range(run.start, run.stop):
                own = slice(self.starts[column], self.starts[column + 1])
                reads = self.reads[own]  # type: ignore[index]
                half = self.first[own, : self.first.shape[1] // 2]
                white = whitening(covariance[reads][:, reads], len(rows))
                half.copy_(white @ half.double())

    def read_bar(
        self,
        entry_bar: Float[Tensor, "batch column unit"],
        first: Float[Tensor, "read unit"],
        width: int,
    ) -> Float[Tensor, "batch width"]:
        """Cotangents of rows of ``width`` numbers from those of the first layers.

        Args:
            entry_bar: cotangents of the first layers' linear parts, columns in the
                order of `whole`.
            first: the first weights, that there were.
            width: of the rows.
        """
        found = entry_bar.new_zeros(width, len(entry_bar))
        for run in self.whole.runs:
            count = run.stop - run.start
            which = slice(run.first, run.first + count * run.width)
            weight = first[which].view(count, run.width, first.shape[1])
            bar = entry_bar[:, run.start : run.stop].permute(1, 2, 0)
            reads = self.reads[which]  # type: ignore[index]
            found.index_add_(0, reads, torch.bmm(weight, bar).flatten(0, 1))
        return found.T


def lengths_of(
    name: str, reads: Sequence[Sequence[int]], shape: NetworkShape, outputs: int
) -> dict[str, int]:
    """Lengths of the weights that grow with columns, by their names in a module.

    Args:
        name: of the networks there.
        reads: what each column reads.
        shape: of the networks.
        outputs: numbers that a network ends in.
    """
    count, hidden = len(reads), shape.hidden
    return {
        f"{name}.first": hidden * sum(map(len, reads)),
        f"{name}.hidden": (shape.layers - 1) * count * hidden * hidden,
        f"{name}.last": count * hidden * outputs,
    }


def rounds_of(waits_for: Sequence[Iterable[int]]) -> list[list[int]]:
    """Columns in rounds; each waits for columns of earlier rounds alone.

    Args:
        waits_for: earlier columns, for each column.

    Example:
        >>> rounds_of([(), (0,), (), (1, 2)])
        [[0, 2], [1], [3]]
    """
    numbers: list[int] = []
    for needed in waits_for:
        numbers.append(1 + max((numbers[c] for c in needed), default=-1))
    rounds: list[list[int]] = [[] for _ in range(1 + max(numbers, default=-1))]
    for column, number in enumerate(numbers):
        rounds[number].append(column)
    return rounds


def _rows(tensor: Tensor, part: Part) -> Tensor:
    """Entries of a part's columns."""
    slices = [tensor[run.start : run.stop] for run in part.runs]
    return slices[0] if len(slices) == 1 else torch.cat(slices)
