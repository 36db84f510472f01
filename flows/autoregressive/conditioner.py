r"""This file is the networks that give each free column's mixture what it reads.

A column is a free column of a latent's block. It reads the free columns of the blocks
of its latent parents, earlier columns of its own block, and the observed columns of its
block, all shifted and scaled. Its own network (`flow/column_networks.py`) ends in the
logits, centres and scales of a mixture, at first nearly standard normal, as residuals
of a linear-Gaussian model are.

Where several columns read the same long data, one network of two layers says in a few
numbers, the context (`contexts.py`), what they read in its place: a sum of squares,
say, is then found once and not by each.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..flow.column_networks import ColumnNetworks, Part, rounds_of
from ..flow.settings import bounded
from ..flow.structure import Structure
from .contexts import Contexts
from .mixture import Mixture

__all__ = [
    "LEAST_SCALE",
    "Conditioner",
    "NetworkConfig",
    "contexts_of",
    "reads_of",
    "sized",
]

_SPREAD = 0.25
"""Share of the centres in the variance at first, which is 1: nearly a normal."""
LEAST_SCALE = 1e-3
"""Of a normal of a mixture."""
_MOST_CONTEXTS = 4
"""Each is a network several times as wide as a column's."""
_BY_LATENTS = -1
"""Stands for as many numbers of a context as the latents that read it need."""
_FEWEST, _MOST = 10, 64
"""Numbers of such a context."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of the networks.

    Args:
        components: normals of a mixture.
        layers: layers of a network before the last one.
        hidden: units of each of them.
        last_layer_scale: scale of the last weights at first.
        context: numbers that stand for data which are more than half as many; 0 for
            none; -1 for as many as the latents that read them need (`sized`).
        forms: quadratic forms of the data that a context is made of, beside themselves;
            0 for none.
        log_beyond: scales from their median beyond which data of heavy tails grow by
            their logarithm alone; 0 for never.
    """

    components: int = bounded(8, 1, 1000)
    layers: int = bounded(3, 1, 64)
    hidden: int = bounded(48, 1, 4096)
    last_layer_scale: float = bounded(0.1, 0, 100)
    context: int = bounded(_BY_LATENTS, _BY_LATENTS, 1000)
    forms: int = bounded(24, 0, 1000)
    log_beyond: float = bounded(10.0, 0, 1e6)

    @property
    def of_contexts(self) -> "NetworkConfig":
        """Shape of the networks that give contexts."""
        return replace(self, layers=2, hidden=4 * self.hidden, last_layer_scale=1.0)


class Conditioner(ColumnNetworks):
    """A network for each free column.

    Args:
        structure: blocks and edges.
        config: shape of the networks.
        generator: source of the first weights.
    """

    def __init__(
        self, structure: Structure, config: NetworkConfig, generator: torch.Generator
    ) -> None:
        config = sized(config, structure)
        contexts = contexts_of(structure, config)
        reads = reads_of(structure, config)
        first = _first_numbers(config.components)
        super().__init__(reads, config, first.reshape(-1), generator)
        self.contexts: Contexts | None = None
        if contexts:
            shape, size, forms = config.of_contexts, config.context, config.forms
            self.contexts = Contexts(contexts, shape, size, forms, generator)
            self._told = [_readers(structure, each) for each in contexts]
        waits_for = [[c for c in needed if c < len(reads)] for needed in reads]
        self.rounds = tuple(self.part(columns) for columns in rounds_of(waits_for))

    def log_prob(
        self,
        given: Float[Tensor, "batch given"],
        residual: Float[Tensor, "batch column"],
    ) -> Float[Tensor, "batch column"]:
        """Log densities of the residuals of all columns, in the order of `whole`.

        Args:
            given: see `forward`.
            residual: one for each column, in that order.
        """
        mixture: Mixture = self(given, self.whole)
        return mixture.log_prob(residual.mT).mT

    def with_contexts(
        self, observed: Float[Tensor, "batch observed"]
    ) -> Float[Tensor, "batch data"]:
        """Scaled observed values, and beside them what stands for long ones."""
        return observed if self.contexts is None else self.contexts.beside(observed)

    def fit(
        self,
        scaled: Float[Tensor, "draw column"],
        observed: Float[Tensor, "draw observed"],
    ) -> None:
        """Fit first weights to joint draws, half of them to see all directions alike.

        Args:
            scaled: free columns in state order.
            observed: scaled observed values.
        """
        if self.contexts is not None:
            told = [scaled[:, columns] for columns in self._told]
            self.contexts.fit(observed, told)
        self.whiten(torch.cat([scaled, self.with_contexts(observed)], -1))

    @property
    def row_size(self) -> int:
        """Numbers that one row needs while all columns are looked at."""
        size = self.numbers_of_row(4)
        more = 0 if self.contexts is None else self.contexts.numbers_of_row(2)
        return size + more

    def forward(self, given: Float[Tensor, "batch given"], part: Part) -> Mixture:
        """Mixtures of a part's columns, [column, component, batch].

        Args:
            given: scaled free columns in state order, then `with_contexts` of scaled
                observed values; what no column of the part reads is not looked at.
            part: of the columns.
        """
        ends = self.outputs(given, part).mT.contiguous()
        logits, centres, raw = ends.chunk(3, -2)
        scales = functional.softplus(raw) + LEAST_SCALE
        return Mixture(torch.log_softmax(logits, -2), centres, scales)


def sized(config: NetworkConfig, structure: Structure) -> NetworkConfig:
    """The shape for a structure: of so many numbers that contexts say enough.

    Data that tell K latents about as a normal does say K(K+3)/2 numbers, the
    coefficients of a quadratic; those of the context that needs most are taken, from 10
    to 64, and no more than leave all data of more than 5 values their contexts.

    Example:
        >>> from flows.flow.structure import StateBlock
        >>> block = StateBlock("w", tuple(range(6)), 0, (), tuple(range(30)))
        >>> sized(NetworkConfig(), Structure((block,), 30)).context
        27
    """
    if config.context != _BY_LATENTS:
        return config
    fewest = replace(config, context=_FEWEST)
    contexts = contexts_of(structure, fewest)
    counts = [len(_readers(structure, data)) for data in contexts]
    needed = max((k * (k + 3) // 2 for k in counts), default=0)
    allowed = min((2 * len(data) - 1 for data in contexts), default=_FEWEST)
    return replace(fewest, context=max(_FEWEST, min(needed, allowed, _MOST)))


def contexts_of(
    structure: Structure, config: NetworkConfig
) -> tuple[tuple[int, ...], ...]:
    """Observed columns for which contexts stand, the fewest first.

    None where there would be many: data of groups, of a few columns each, which these
    read cheaper themselves.

    Example:
        >>> from flows.flow.structure import StateBlock
        >>> long = tuple(range(30))
        >>> a = StateBlock("a", (0,), 0, (), long)
        >>> b = StateBlock("b", (1,), 0, (0,), long)
        >>> contexts_of(Structure((a, b), 30), NetworkConfig(context=10)) == (long,)
        True
    """
    counts: Counter[tuple[int, ...]] = Counter()
    for block in structure.blocks:
        counts[block.observed_columns] += len(block.free_columns)
    least = 0.5 * config.context or math.inf
    shared = [each for each, num in counts.items() if num > 1 and len(each) > least]
    return tuple(sorted(shared, key=len)) if len(shared) <= _MOST_CONTEXTS else ()


def reads_of(
    structure: Structure, config: NetworkConfig
) -> tuple[tuple[int, ...], ...]:
    """What each free column in state order reads: free columns, then what is given.

    Observed column c is number ``free_dim`` + c; behind these stand the contexts.
    """
    sizes = [len(block.free_columns) for block in structure.blocks]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    contexts = contexts_of(structure, config)
    reads: list[tuple[int, ...]] = []
    for block, start, size in zip(structure.blocks, starts, sizes, strict=True):
        parents = [starts[j] + k for j in block.latent_parents for k in range(sizes[j])]
        data: Sequence[int] = block.observed_columns
        if data in contexts:
            first = structure.observed_dim + config.context * contexts.index(data)
            data = range(first, first + config.context)
        given = [structure.free_dim + c for c in data]
        for own in range(size):
            reads.append((*parents, *range(start, start + own), *given))
    return tuple(reads)


def _readers(structure: Structure, data: Sequence[int]) -> list[int]:
    """Free columns in state order that read just these observed columns."""
    owners = [
        block for block in structure.blocks for _ in range(len(block.free_columns))
    ]
    return [c for c, block in enumerate(owners) if block.observed_columns == data]


def _first_numbers(components: int) -> Tensor:
    """Logits, centres and raw scales of a mixture of mean 0 and variance 1."""
    centres = torch.linspace(-1.0, 1.0, components) * (components > 1)
    if components > 1:
        centres *= (_SPREAD / centres.square().mean()).sqrt()
    scale = (1.0 - centres.square().mean()).sqrt() - LEAST_SCALE
    raw = scale.expm1().log()
    return torch.stack([torch.zeros_like(centres), centres, raw.expand(components)])
