r"""This file eliminates the columns of Gaussians given in information form.

A clique has the precision F and the linear term h of its columns v = (o, p), o its own
and p its parents,

    F_oo = L L^T,   W = L^-1 F_op,   g = L^-1 h_o,

so that L^T o + W p - g ~ N(0, I) given p, and its message to the clique above is
F_pp - W^T W with h_p - W^T g. Own columns stand last sampled first, so L^T makes of
each a row of earlier ones, which is the density of that column given them.

Gradients flow through all of it. Rows of data that differ in h alone share F.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .cliques import Batch, Plan

__all__ = ["Conditional", "Elimination", "Information", "square_of", "times"]


@dataclass(frozen=True, slots=True, eq=False)
class Information:
    """Precisions and linear terms of all cliques, side by side.

    Args:
        precision: one row for all data, or one for each.
        linear: one row for each.
    """

    precision: Float[Tensor, "rows entry"]
    linear: Float[Tensor, "batch column"]


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """Own columns of a batch of cliques given their parents.

    Args:
        root: L.
        slopes: W.
        offset: g.
    """

    root: Float[Tensor, "rows clique own own"]
    slopes: Float[Tensor, "rows clique own parent"]
    offset: Float[Tensor, "batch clique own"]

    @property
    def log_root(self) -> Float[Tensor, "rows clique own"]:
        """Log|det| of residuals by columns."""
        return torch.diagonal(self.root, dim1=-2, dim2=-1).log()

    def rows(self, which: Tensor | None) -> "Conditional":
        """That of each row of data that stands for several."""
        if which is None:
            return self
        parts = (self.root, self.slopes, self.offset)
        return Conditional(*(p[which] if len(p) > 1 else p for p in parts))

    def to_residual(self, own: Tensor, parents: Tensor) -> Tensor:
        """L^T o + W p - g."""
        return times(self.root.mT, own) + times(self.slopes, parents) - self.offset

    def from_residual(self, residual: Tensor, parents: Tensor) -> Tensor:
        """The own columns of which the residual is given."""
        right = residual + self.offset - times(self.slopes, parents)
        return _solved(self.root.mT, right, upper=True)


@dataclass(frozen=True, slots=True)
class _Message:
    """Where a batch's messages to another go.

    Args:
        batch: the other.
        which: cliques that send them; None if all do.
        entries: of the other's precisions.
        columns: of the other's linear terms.
    """

    batch: int
    which: str
    entries: str
    columns: str


class Elimination(nn.Module):
    """What a plan does with numbers.

    Args:
        plan: an order of elimination.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self._messages = [self._send(plan, b) for b in range(len(plan.batches))]
        order: list[int] = []
        for number, batch in enumerate(plan.batches):
            self._hold(f"own{number}", batch.own)
            self._hold(f"parents{number}", batch.parents)
            order.extend(c for own in batch.own for c in own)
        self._hold("unorder", torch.tensor(order).argsort())
        self._sources = [self._read(plan, batch) for batch in plan.batches]

    @property
    def num_columns(self) -> int:
        """How many columns are eliminated."""
        return len(self.plan.place)

    def conditionals(self, information: Information) -> list[Conditional]:
        """Each batch's own columns given their parents, in the order of elimination."""
        sizes = [len(b.own) * b.width**2 for b in self.plan.batches]
        widths = [len(b.own) * b.width for b in self.plan.batches]
        precisions = list(torch.split(information.precision, sizes, -1))
        linears = list(torch.split(information.linear, widths, -1))
        found = []
        for number, batch in enumerate(self.plan.batches):
            shape = len(batch.own), batch.width, batch.width
            precision = precisions[number].reshape(-1, *shape)
            linear = linears[number].reshape(-1, *shape[:2])
            own = len(batch.own[0])
            root = _root(precision[..., :own, :own])
            slopes = _lower(root, precision[..., :own, own:])
            offset = _lower(root, linear[..., :own, None])[..., 0]
            found.append(Conditional(root, slopes, offset))
            if batch.parents[0]:
                precision = precision[..., own:, own:] - square_of(slopes)
                linear = linear[..., own:] - times(slopes.mT, offset)
            for message in self._messages[number]:
                to, entries = message.batch, self._held(message.entries)
                said = self._of(message, precision)
                precisions[to] = precisions[to].index_add(-1, entries, said)
                said, columns = self._of(message, linear), self._held(message.columns)
                linears[to] = linears[to].index_add(-1, columns, said)
        return found

    def moments(
        self, given: Sequence[Conditional]
    ) -> tuple[Float[Tensor, "rows entry"], Float[Tensor, "batch column"]]:
        """Covariances and means of cliques, laid out as in `Information`."""
        covariances = [given[0].root.flatten()[:0]] * len(given)
        means = list(covariances)
        for number in reversed(range(len(given))):
            conditional, batch = given[number], self.plan.batches[number]
            above = len(batch.own), len(batch.parents[0])
            spread = conditional.root.new_zeros(1, *above, above[1])
            centre = conditional.offset.new_zeros(1, *above)
            for message in self._messages[number]:
                which = self._held(message.which)
                entries, columns = map(self._held, (message.entries, message.columns))
                said = covariances[message.batch][:, entries]
                said = said.reshape(len(said), -1, above[1], above[1])
                spread = spread.expand(len(said), -1, -1, -1)
                spread = spread.index_copy(1, which, said)
                said = means[message.batch][:, columns]
                said = said.reshape(len(said), -1, above[1])
                centre = centre.expand(len(said), -1, -1).index_copy(1, which, said)
            covariance, mean = _joined(conditional, spread, centre)
            covariances[number], means[number] = covariance.flatten(1), mean.flatten(1)
        rows = max(map(len, covariances)), max(map(len, means))
        return (
            torch.cat([each.expand(rows[0], -1) for each in covariances], -1),
            torch.cat([each.expand(rows[1], -1) for each in means], -1),
        )

    def to_residual(
        self, state: Float[Tensor, "batch column"], given: Sequence[Conditional]
    ) -> Float[Tensor, "batch column"]:
        """Independent standard normals of columns that are drawn from `given`."""
        parts = []
        for number, conditional in enumerate(given):
            own, parents = self._held(f"own{number}"), self._held(f"parents{number}")
            moved = conditional.to_residual(state[:, own], state[:, parents])
            parts.append(moved.flatten(1))
        return torch.cat(parts, -1)[:, self._held("unorder")]

    def from_residual(
        self, residual: Float[Tensor, "batch column"], given: Sequence[Conditional]
    ) -> Float[Tensor, "batch column"]:
        """Columns of standard normals; undoes `to_residual`."""
        parts = [residual[:, :0]] * len(given)
        for number in reversed(range(len(given))):
            own = self._held(f"own{number}")
            sources = self._sources[number]
            read = torch.cat([parts[each] for each in sources], -1) if sources else None
            shape = len(residual), *self._held(f"parents{number}").shape
            parents = (
                residual.new_zeros(shape)
                if read is None
                else read[:, self._held(f"reads{number}")].reshape(shape)
            )
            parts[number] = given[number].from_residual(residual[:, own], parents)
            parts[number] = parts[number].flatten(1)
        return torch.cat(parts, -1)[:, self._held("unorder")]

    def conditional(
        self,
        state: Float[Tensor, "batch column"],
        given: Sequence[Conditional],
        columns: Sequence[int],
    ) -> tuple[Float[Tensor, "batch chosen"], Float[Tensor, "rows chosen"]]:
        """Centres and scales of columns given those before each.

        Args:
            state: values of all columns; those that are not before do not matter.
            given: `conditionals`.
            columns: in sampling order.
        """
        centres: dict[int, Tensor] = {}
        scales: dict[int, Tensor] = {}
        by_batch: dict[int, list[int]] = {}
        for column in columns:
            by_batch.setdefault(self.plan.place[column][0], []).append(column)
        for number, chosen in by_batch.items():
            own, parents = self._held(f"own{number}"), self._held(f"parents{number}")
            away = given[number].to_residual(state[:, own], state[:, parents])
            for column in chosen:
                position = self.plan.place[column][1]
                place = self.plan.batches[number].own[position].index(column)
                scale = 1.0 / given[number].root[:, position, place, place]
                centres[column] = state[:, column] - away[:, position, place] * scale
                scales[column] = scale
        return (
            torch.stack([centres[column] for column in columns], -1),
            torch.stack([scales[column] for column in columns], -1),
        )

    def log_roots(self, given: Sequence[Conditional]) -> Float[Tensor, "rows column"]:
        """Log|det| of `to_residual` by columns."""
        parts = [conditional.log_root.flatten(1) for conditional in given]
        return torch.cat(parts, -1)[:, self._held("unorder")]

    def _of(self, message: _Message, cliques: Tensor) -> Tensor:
        """What the senders of a message say."""
        which = self._held(message.which)
        if len(which) < cliques.shape[1]:
            cliques = cliques[:, which]
        return cliques.flatten(1)

    def _send(self, plan: Plan, number: int) -> list[_Message]:
        """Holds where a batch's messages go."""
        groups: dict[int, tuple[list[int], list[int], list[int]]] = {}
        for position, parents in enumerate(plan.batches[number].parents):
            if not parents:
                continue
            to, place, columns = plan.clique(parents[0])
            width = plan.batches[to].width
            at = [columns.index(c) for c in parents]
            which, entries, rows = groups.setdefault(to, ([], [], []))
            which.append(position)
            entries.extend((place * width + i) * width + j for i in at for j in at)
            rows.extend(place * width + i for i in at)
        found = []
        for to, parts in groups.items():
            names = [f"{what}{number}to{to}" for what in ("which", "entries", "rows")]
            for name, part in zip(names, parts, strict=True):
                self._hold(name, torch.tensor(part))
            found.append(_Message(to, *names))
        return found

    def _read(self, plan: Plan, batch: Batch) -> list[int]:
        """Batches that hold the parents of one; holds their places among these."""
        flat = [c for parents in batch.parents for c in parents]
        sources = sorted({plan.place[c][0] for c in flat})
        place: dict[int, int] = {}
        for source in sources:
            for own in plan.batches[source].own:
                for column in own:
                    place[column] = len(place)
        number = plan.batches.index(batch)
        self._hold(f"reads{number}", torch.tensor([place[c] for c in flat]).long())
        return sources

    def _hold(self, name: str, index: Tensor | tuple[tuple[int, ...], ...]) -> None:
        index = index if isinstance(index, Tensor) else torch.tensor(index).long()
        self.register_buffer(name, index, persistent=False)

    def _held(self, name: str) -> Tensor:
        found: Tensor = getattr(self, name)
        return found


def _joined(
    conditional: Conditional, spread: Tensor, centre: Tensor
) -> tuple[Tensor, Tensor]:
    """Covariance and mean of own columns and parents, from those of the parents."""
    root = conditional.root.mT
    eye = torch.eye(root.shape[-1]).to(root).expand_as(root)
    inverse = torch.linalg.solve_triangular(root, eye, upper=True)
    slopes = -inverse @ conditional.slopes
    mean = times(slopes, centre) + times(inverse, conditional.offset)
    across = slopes @ spread
    own = inverse @ inverse.mT + across @ slopes.mT
    top = torch.cat([own, across], -1)
    spread = spread.expand(len(top), -1, -1, -1)
    whole = torch.cat([top, torch.cat([across.mT, spread], -1)], -2)
    return whole, torch.cat([mean, centre.expand(len(mean), -1, -1)], -1)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices by vectors; without a product of small matrices, which is slow."""
    return (matrix * vector.unsqueeze(-2)).sum(-1)


def square_of(matrix: Tensor) -> Tensor:
    """M^T M; likewise where M is a row."""
    return matrix.mT * matrix if matrix.shape[-2] == 1 else matrix.mT @ matrix


def _root(precision: Tensor) -> Tensor:
    """The lower Cholesky root; not a number where there is none."""
    if precision.shape[-1] == 1:
        return precision.sqrt()
    root, info = torch.linalg.cholesky_ex(precision)
    return torch.where(info[..., None, None] > 0, torch.nan, root)


def _lower(root: Tensor, right: Tensor) -> Tensor:
    if root.shape[-1] == 1:
        return right / root
    solved: Tensor = torch.linalg.solve_triangular(root, right, upper=False)
    return solved


def _solved(matrix: Tensor, right: Tensor, *, upper: bool) -> Tensor:
    if matrix.shape[-1] == 1:
        return right / matrix[..., 0]
    solved: Tensor = torch.linalg.solve_triangular(
        matrix, right.unsqueeze(-1), upper=upper
    )
    return solved[..., 0]
