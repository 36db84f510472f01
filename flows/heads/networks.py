r"""This file is the heads: P(k_i | what latent i reads), a network's logits each.

    P(k) = ((1 - a) softmax(logits)_c + a / C) P(k | cell c),      c the cell of k,

over its C cells (`cells.py`), a small, so that no value is impossible. A head reads the
free columns of the continuous latents that it depends on, the values of earlier heads,
one number each and beside it one for each cell if there are more than two, and observed
columns. Numbers are shifted and scaled, and enter as asinh of that, which keeps what is
far out in bounds.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..flow import column_networks
from ..flow.column_networks import (
    WHITENING_DRAWS,
    ColumnNetworks,
    Part,
    rounds_of,
)
from ..flow.settings import bounded
from ..flow.structure import Structure
from .cells import Cells, CellTable

__all__ = ["Heads", "HeadsConfig", "lengths_of"]

_DEFENSIVE = 1e-3
"""Share of draws that take any cell: a."""


@dataclass(frozen=True, slots=True)
class HeadsConfig:
    """Shape of the networks.

    Args:
        layers: layers of a network before the last one.
        hidden: units of each of them.
        last_layer_scale: scale of the last weights at first.
    """

    layers: int = bounded(2, 1, 64)
    hidden: int = bounded(32, 1, 4096)
    last_layer_scale: float = bounded(0.1, 0, 100)


class Heads(nn.Module):
    """The heads of the last latents of a structure.

    Args:
        structure: of all latents; the last ones have a head, in sampling order.
        cells: of these.
        config: shape of the networks.
        seed: of the first weights.
    """

    shift: Tensor
    scale: Tensor
    observed_shift: Tensor
    observed_scale: Tensor

    def __init__(
        self,
        structure: Structure,
        cells: Sequence[Cells],
        config: HeadsConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.cells = tuple(cells)
        self.config = config
        self.table = CellTable(cells)
        self._first = len(structure.blocks) - len(cells)
        self._order = [c for block in structure.blocks for c in block.free_columns]
        self.columns = [b.free_columns[0] for b in structure.blocks[self._first :]]
        self.names = structure.names[self._first :]
        for prefix, width in (
            ("", len(self._order)),
            ("observed_", structure.observed_dim),
        ):
            self.register_buffer(f"{prefix}shift", torch.zeros(width))
            self.register_buffer(f"{prefix}scale", torch.ones(width))
        reads, self._seen_at = _reads_of(structure, self.cells)
        self.networks = ColumnNetworks(
            reads,
            config,
            torch.zeros(self.table.width),
            torch.Generator().manual_seed(seed),
        )
        waits_for = [
            [j - self._first for j in block.latent_parents if j >= self._first]
            for block in structure.blocks[self._first :]
        ]
        self._rounds = [self.networks.part(each) for each in rounds_of(waits_for)]

    @torch.no_grad()
    def fit_normalisation(
        self, free: Float[Tensor, "draw free"], observed: Float[Tensor, "draw observed"]
    ) -> None:
        """Fits shifts and scales to joint draws."""
        rows = (("", free[:, self._order]), ("observed_", observed))
        for prefix, values in rows:
            if not values.shape[1]:
                continue
            middle = values.double().median(0).values
            spread = (values.double() - middle).abs().mean(0)
            is_wide = spread > 1e-12 * (1.0 + middle.abs())
            getattr(self, f"{prefix}shift").copy_(middle)
            getattr(self, f"{prefix}scale").copy_(torch.where(is_wide, spread, 1.0))
        few = free[:WHITENING_DRAWS], observed[:WHITENING_DRAWS]
        self.networks.whiten(self._given(*(each.to(self.shift.device) for each in few)))

    def log_prob(
        self, free: Float[Tensor, "row free"], observed: Float[Tensor, "row observed"]
    ) -> Float[Tensor, "row head"]:
        """Log probabilities of the heads' values, given the others, in nats."""
        part = self.networks.whole
        logs = self._log_cells(self._given(free, observed), part)
        values = free[:, self.columns].floor().T[list(part.columns)]
        found = self._log_values(logs, values, part)
        return found[torch.tensor(part.columns).long().argsort()].T

    def drawn(
        self,
        free: Float[Tensor, "row free"],
        observed: Float[Tensor, "row observed"],
        share: Float[Tensor, "row head"],
        known: Collection[str] = (),
    ) -> tuple[Float[Tensor, "row free"], Float[Tensor, "row head"]]:
        """Rows with the heads' values put in, and the log probabilities of these.

        Args:
            free: free coordinates; those of heads count where known.
            observed: observed values.
            share: of the mass of each head, from the least value on, that it reaches.
            known: names of heads that keep their values.
        """
        columns = torch.tensor(self.columns, device=free.device)
        terms = free.new_zeros(len(free), len(columns))
        given = self._given(free, observed)
        for part in self._rounds:
            logs = self._log_cells(given, part)
            which = torch.tensor(part.columns).long()
            drawn = self._picked(logs.detach(), share[:, which].T, which)
            is_known = torch.tensor([self.names[i] in known for i in part.columns])
            kept = free[:, columns[which]].T.floor()
            values = torch.where(is_known[:, None].to(free.device), kept, drawn)
            found = self._log_values(logs, values, part)
            terms = terms.index_copy(1, which.to(free.device), found.T)
            free = free.index_copy(1, columns[which], values.T.to(free) + 0.5)
            for place, own in zip(part.columns, values, strict=True):
                seen = torch.tensor(self._seen_at[place], device=free.device)
                given = given.index_copy(1, seen, self._seen(own, place).to(given))
        return free, terms

    def _picked(self, logs: Tensor, share: Tensor, which: Tensor) -> Tensor:
        """Values at shares of the mass of some heads, from the least value on."""
        chances, share = logs.double().exp().cpu(), share.double().cpu()
        upper = chances.cumsum(-1)
        share = share * upper[..., -1]
        category = (upper <= share[..., None]).sum(-1)
        # Rounding may leave the last one; what is not allowed has no chance.
        last = (chances > 0).double().cumsum(-1).argmax(-1)
        category = torch.minimum(category, last)[..., None]
        chance = chances.gather(-1, category)[..., 0]
        below = upper.gather(-1, category)[..., 0] - chance
        inside = ((share - below) / chance).clamp(0.0, 1.0)
        found = self.table.values(category[..., 0], inside, which)
        return found.to(logs.device)

    def _log_cells(
        self, given: Tensor, part: Part
    ) -> Float[Tensor, "head row category"]:
        """Log probabilities of the categories of a part's heads."""
        logits = self.networks.outputs(given, part)
        allowed = self.table.allowed[list(part.columns)].to(logits.device)[:, None]
        logs = torch.log_softmax(logits.masked_fill(~allowed, -math.inf), -1)
        broad = math.log(_DEFENSIVE) - allowed.sum(-1, keepdim=True).to(logs).log()
        mixed = torch.logaddexp(logs + math.log1p(-_DEFENSIVE), broad)
        return mixed.masked_fill(~allowed, -math.inf)

    def _log_values(self, logs: Tensor, values: Tensor, part: Part) -> Tensor:
        """Log probabilities of values, [head, row]; -inf outside the support."""
        which = torch.tensor(part.columns).long()
        found = values.detach().double().cpu()
        category = self.table.category(found, which)
        category = category.clamp(max=self.table.width - 1)
        inside = self.table.log_inside(found, category, which)
        own = logs.gather(-1, category.to(logs.device)[..., None])[..., 0]
        return own + inside.to(own)

    def _given(self, free: Tensor, observed: Tensor) -> Tensor:
        """What networks may read: continuous latents, data, then each head's own."""
        order = self._order[: len(self._order) - len(self.cells)]
        numbers = (free[:, order] - self.shift[: len(order)]) / self.scale[: len(order)]
        data = (observed - self.observed_shift) / self.observed_scale
        values = free.detach()[:, self.columns].floor().T
        heads = [self._seen(own, place) for place, own in enumerate(values)]
        return torch.cat([numbers.asinh(), data.asinh(), *heads], -1)

    def _seen(
        self, values: Float[Tensor, " row"], place: int
    ) -> Float[Tensor, "row given"]:
        """What is read of a head's values: the number, and one for each cell."""
        where = place - len(self.cells)
        number = ((values - self.shift[where]) / self.scale[where]).asinh()[:, None]
        if self.cells[place].count <= 2:
            return number
        which = torch.tensor([place])
        category = self.table.category(values.double().cpu()[None], which)[0]
        cells = category[:, None] == torch.arange(1, self.cells[place].count + 1)
        return torch.cat([number, cells.to(number)], -1)


def lengths_of(
    structure: Structure, cells: Sequence[Cells], config: HeadsConfig
) -> dict[str, int]:
    """Lengths of the heads' tensors that grow with columns, see `flow.kinds.Kind`."""
    reads, _ = _reads_of(structure, cells)
    width = max(each.count for each in cells) + 2
    return column_networks.lengths_of("networks", reads, config, width)


def _reads_of(
    structure: Structure, cells: Sequence[Cells]
) -> tuple[list[list[int]], list[list[int]]]:
    """What each head reads, and what is read of it, as positions in the given row."""
    blocks, first = structure.blocks, len(structure.blocks) - len(cells)
    sizes = [len(block.free_columns) for block in blocks[:first]]
    data = sum(sizes)
    sizes.append(structure.observed_dim)
    sizes += [1 + each.count * (each.count > 2) for each in cells]
    ends = list(accumulate(sizes))
    own = [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    del own[first]  # the data
    reads = [
        [
            *(c for j in block.latent_parents for c in own[j]),
            *(data + c for c in block.observed_columns),
        ]
        for block in blocks[first:]
    ]
    return reads, own[first:]
