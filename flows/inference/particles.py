r"""This file holds weighted values of the latents, merged from batches and averaged.

Particles (z_i, w_i) represent a distribution by their averages (`averages`). Their
weights stay unnormalised and in log space, so that batches drawn apart merge by
standing side by side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ArgumentError
from ..model.layout import Variable
from ..optional import require
from .averages import Averages
from .cautions import Caution
from .particle_file import load_columns, save_columns
from .resampling import resample
from .summary import Summary, summarize
from .weights import WeightTotals, check_log_weights

__all__ = ["EqualDraws", "Particles"]


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """Weighted values of all latents.

    Attributes:
        latents: Natural values, float64, one row per particle.
        log_weights: Unnormalised log weights in nats, float64.
        columns: Which columns belong to which latent.
        doubts: Reasons not to trust them that their weights do not tell.

    Example:
        >>> import torch
        >>> z = Variable("sample0", "z", (), 0, 1)
        >>> values = torch.tensor([[0.0], [1.0], [5.0]]).double()
        >>> weights = torch.tensor([1.0, 1.0, 0.0]).double().log()
        >>> particles = Particles.from_draws(values, weights, [z])
        >>> len(particles), particles["z"].tolist(), particles.mean("z").item()
        (3, [0.0, 1.0, 5.0], 0.5)
    """

    latents: Float[Tensor, "particle latent"]
    log_weights: Float[Tensor, " particle"]
    columns: tuple[Variable, ...]
    doubts: tuple[Caution, ...] = ()

    def __repr__(self) -> str:
        """Return one line; `summary` has the figures."""
        labels = ", ".join(variable.label for variable in self.columns[:6])
        more = len(self.columns) - 6
        ending = f" and {more} more" if more > 0 else ""
        return f"<Particles: {len(self)} weighted rows of {labels}{ending}>"

    @classmethod
    def from_draws(
        cls,
        latents: Float[Tensor, "particle latent"],
        log_weights: Float[Tensor, " particle"],
        columns: Sequence[Variable],
    ) -> "Particles":
        """Return particles, their shapes, dtypes and weights checked.

        Raises:
            ArgumentError: If the shapes do not fit together, or latents or weights are
                not float64.
            InferenceError: If a log weight is nan or +inf.
        """
        width = columns[-1].stop if columns else 0
        num = log_weights.shape[0]
        if log_weights.ndim != 1 or latents.shape != (num, width):
            raise _wrong(
                "latents and log weights do not fit together",
                f"[n, {width}] and [n]",
                f"{list(latents.shape)} and {list(log_weights.shape)}",
            )
        if latents.dtype != torch.float64:
            raise _wrong("latents of another type", "float64", str(latents.dtype))
        check_log_weights(log_weights, "particles")
        return cls(latents.detach(), log_weights.detach(), tuple(columns))

    @classmethod
    def merge(cls, batches: Iterable["Particles"]) -> "Particles":
        """Return the particles of all batches as one set, with the doubts of each.

        Unnormalised weights need no rescaling: a batch counts by its weights.

        Raises:
            ArgumentError: If there is no batch, or if columns differ between batches.
        """
        parts = tuple(batches)
        if not parts:
            raise _wrong("nothing to merge", "at least one batch", "none")
        if any(part.columns != parts[0].columns for part in parts):
            raise _wrong("batches of different latents do not merge", "equal columns")
        return cls(
            torch.cat([part.latents for part in parts]),
            torch.cat([part.log_weights for part in parts]),
            parts[0].columns,
            tuple(dict.fromkeys(doubt for part in parts for doubt in part.doubts)),
        )

    @classmethod
    def load(cls, path: Path | str) -> "Particles":
        """Return the particles that `save` wrote to `path`.

        Raises:
            InferenceError: If the file is missing, cut short, or no particles file.
        """
        latents, log_weights, columns, doubts = load_columns(Path(path))
        return replace(cls.from_draws(latents, log_weights, columns), doubts=doubts)

    def save(self, path: Path | str) -> None:
        """Write the particles to `path`, whole or not at all (`particle_file`).

        Raises:
            InferenceError: If a latent's name clashes with an array of the format, or
                the place cannot be written.
        """
        save_columns(
            Path(path), self.latents, self.log_weights, self.columns, self.doubts
        )

    def to_arviz(self, **groups: Mapping[str, Any]) -> Any:
        """Return the particles as ArviZ reads them: a `DataTree` with one chain.

        The draws of its group `posterior` are weighted by `sample_stats/log_weight`:
        whoever reads them needs the log weights, or draws of `resampled`.

        Args:
            **groups: More groups, such as `observed_data`: values by name.

        Raises:
            FlowsError: If ArviZ, an extra, is not installed.
        """
        require("arviz_base", extra="arviz", where="to_arviz")
        return import_module("arviz_base").from_dict(
            {
                "posterior": {
                    each.label: self[each.name].numpy()[None] for each in self.columns
                },
                "sample_stats": {"log_weight": self.log_weights.numpy()[None]},
                **groups,
            }
        )

    def __len__(self) -> int:
        """Return the number of particles."""
        return self.log_weights.shape[0]

    @property
    def num_particles(self) -> int:
        """Return the number of particles."""
        return len(self)

    @property
    def totals(self) -> WeightTotals:
        """Return what the weights add up to."""
        return WeightTotals.from_log_weights(self.log_weights)

    @property
    def element_labels(self) -> tuple[str, ...]:
        """Return one label per column of `latents`."""
        return tuple(label for each in self.columns for label in each.column_names)

    @property
    def normalized_weights(self) -> Float[Tensor, " particle"]:
        """Return the weights scaled to sum to one.

        Raises:
            InferenceError: If every weight is 0, for then no average exists.
        """
        return self._averages(None).normalized_weights

    def summary(self) -> Summary:
        """Return what the particles say, and how far to trust it; it prints as a table.

        Standard errors are those of independent particles; `smc.result` knows those of
        particles that share ancestors.
        """
        found = summarize(self.latents, self.log_weights, self.columns)
        return replace(found, cautions=(*self.doubts, *found.cautions))

    def __getitem__(self, name: str) -> Float[Tensor, "particle ..."]:
        """Return the values of one latent, in its own shape.

        Args:
            name: The document's name or the program's.

        Raises:
            KeyError: If no latent has this name.
        """
        each = self._column(name)
        block = self.latents[:, each.start : each.stop]
        return block.reshape(len(self), *each.shape)

    def mean(self, name: str | None = None) -> Float[Tensor, "..."]:
        """Return the weighted mean m = Σ W z of every column, or of one latent."""
        return self._shaped(self._averages(name).mean(), name)

    def sd(self, name: str | None = None) -> Float[Tensor, "..."]:
        """Return the weighted standard deviation √(Σ W (z - m)²), likewise."""
        return self._shaped(self._averages(name).sd(), name)

    def mean_standard_error(self, name: str | None = None) -> Float[Tensor, "..."]:
        """Return the Monte Carlo standard error of `mean`: √(Σ W² (z - m)²)."""
        return self._shaped(self._averages(name).mean_standard_error(), name)

    def quantiles(
        self, levels: Sequence[float], name: str | None = None
    ) -> Float[Tensor, "level ..."]:
        """Return weighted quantiles of every column, or of one latent.

        Raises:
            ArgumentError: If a level is not strictly between 0 and 1.
        """
        return self._shaped(self._averages(name).quantiles(levels), name)

    def resampled(
        self,
        num_draws: int,
        *,
        scheme: str = "systematic",
        generator: torch.Generator,
    ) -> "EqualDraws":
        """Return equally weighted draws, in random order.

        Args:
            num_draws: How many.
            scheme: A name in `resampling.SCHEMES`. With `systematic` the number of
                copies of a particle differs from M W_i by less than one: none is
                copied where every M W_i is below 1. With `multinomial` draws are
                independent of each other.
            generator: Decides the draws.

        Raises:
            ArgumentError: If no scheme has this name.
            InferenceError: If every weight is 0.
        """
        ancestors = resample(
            self.log_weights, num_draws, scheme=scheme, generator=generator
        )
        order = torch.randperm(num_draws, generator=generator, device=generator.device)
        latents = self.latents[ancestors[order]]
        weights = self.log_weights.new_zeros(num_draws)
        return EqualDraws(
            Particles(latents, weights, self.columns, self.doubts),
            int((ancestors.bincount() > 0).sum()),
        )

    def _column(self, name: str) -> Variable:
        for each in self.columns:
            if name in (each.name, each.label):
                return each
        known = ", ".join(each.label for each in self.columns)
        raise KeyError(f"particles: no latent is called {name!r}; there are {known}")

    def _averages(self, name: str | None) -> Averages:
        if name is None:
            return Averages(self.latents, self.log_weights)
        each = self._column(name)
        return Averages(self.latents[:, each.start : each.stop], self.log_weights)

    def _shaped(self, found: Tensor, name: str | None) -> Tensor:
        """Return averages of columns in the shape of their latent."""
        if name is None:
            return found
        return found.reshape(found.shape[:-1] + self._column(name).shape)


@dataclass(frozen=True, slots=True, eq=False)
class EqualDraws:
    """Equally weighted draws that stand for weighted particles.

    Attributes:
        particles: The draws, of log weight 0.
        num_distinct: How many different particles they are.
    """

    particles: Particles
    num_distinct: int


def _wrong(what: str, expected: str, got: str = "") -> ArgumentError:
    return ArgumentError.at("particles", what, expected, got)
