r"""This file says what a Gaussian potential of a structured Gaussian depends on.

A factor of a model becomes a potential in predictors u, each linear in latents and in
observed values, with z the latents' free columns and x the observed columns,

    u_k = [1, z] M_k [1, x]^T,        log phi(z; x) = -1/2 u^T J u + h^T u,

J and h by a network of x, which factors of one form share (`structured_gaussian/`). Of
a factor that is linear and normal given the data the predictors are its standardised
residuals, and J = I, h = 0: it is exact, and its `form` is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ArgumentError
from .blocks import StateBlock, check_eliminated

__all__ = ["Potential", "check_potentials"]

_MOST_ENTRIES = 10_000_000


@dataclass(frozen=True, slots=True)
class Potential:
    """One factor of a model.

    Args:
        latents: columns of the tensor of free coordinates.
        observed: columns of the observed tensor, the factor's own value first.
        predictors: M_k row by row, one after the other.
        own: how many of the last predictors are the columns of the latent whose
            density the factor is; 0 where it is that of an observed value.
        form: the same for factors that differ in columns and predictors alone; empty
            where the potential is exact.
        is_shared: whether potentials of its form have one network of their data;
            otherwise each has numbers of its own, and reads no data.
        component: of a mixture; such potentials are exact.
        constant: log of the factor where its predictors are nought, in nats.
    """

    latents: tuple[int, ...]
    observed: tuple[int, ...]
    predictors: tuple[float, ...]
    own: int
    form: str
    is_shared: bool = True
    component: int = 0
    constant: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """Of one M."""
        return 1 + len(self.latents), 1 + len(self.observed)

    @property
    def num_predictors(self) -> int:
        """How many predictors there are."""
        rows, columns = self.shape
        return len(self.predictors) // (rows * columns)

    @property
    def is_exact(self) -> bool:
        """Whether it is the factor itself."""
        return not self.form


def check_potentials(
    blocks: Sequence[StateBlock], observed_dim: int, potentials: Sequence[Potential]
) -> None:
    """Eliminates latents, last first, and checks what each conditional depends on.

    Raises:
        ArgumentError: if a potential is none, a latent has none, or an edge would be
            needed that lacks.
    """
    owner = {c: i for i, block in enumerate(blocks) for c in block.free_columns}
    scopes = []
    for number, each in enumerate(potentials):
        _check(number, each, owner, observed_dim)
        if not each.latents:
            continue
        nodes = {owner[c] for c in each.latents}
        scopes.append((nodes, set(each.observed)))
    components = range(1 + max(each.component for each in potentials))
    own = {(e.component, c) for e in potentials for c in e.latents[: e.own]}
    if missing := {c for c in owner for n in components if (n, c) not in own}:
        raise ArgumentError.at(
            "structure, potentials",
            "a latent without its own",
            "one of every latent",
            f"none of column {min(missing)}",
        )
    check_eliminated(blocks, scopes, "potentials")


def _check(
    number: int, potential: Potential, owner: dict[int, int], observed_dim: int
) -> None:
    latents, observed = potential.latents, potential.observed
    rows, columns = potential.shape
    count = potential.num_predictors
    if (
        not (latents or potential.is_exact)
        or len(set(latents)) < len(latents)
        or not set(latents) <= set(owner)
        or len(set(observed)) < len(observed)
        or not set(observed) <= set(range(observed_dim))
    ):
        what, expected = "columns", "distinct columns of latents and observed values"
        got = f"{latents}, {observed}"
    elif (
        (count < 1 and not potential.is_exact)
        or count * rows * columns != len(potential.predictors)
        or count * rows * columns > _MOST_ENTRIES
        or not 0 <= potential.own <= min(count, len(latents))
        or (potential.component and not potential.is_exact)
    ):
        what, expected = "predictors", f"rows of {rows} by {columns} numbers"
        got = f"{len(potential.predictors)} numbers"
    else:
        return
    where = f"structure, potential {number}"
    raise ArgumentError.at(where, what, expected, got)
