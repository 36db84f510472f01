"""This file owns `Learned`: parameters that rows of data share, and their worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from daphne_bridge.graph.document import NodeNames, dump_document, dump_names

from ..inference.cautions import Caution
from ..inference.particles import Particles
from ..model.model import Model
from ..report.learning_table import learning_table
from ..report.tables import as_text
from ..storage.export import save_summary
from ..storage.folders import new_folder
from ..storage.json_values import finite_or_none
from .figures import Figures

__all__ = ["LEARNED_FILES", "LEARNING", "Estimate", "Learned"]

LEARNING = "learning.json"
"""Name of the file that says what was learned."""

LEARNED_FILES = (LEARNING, "learned.json", "learned.names.json", "particles.npz")
"""Names of the files in its folder; another file is never replaced."""

_MOST_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number among the parameters.

    Attributes:
        value: Where the posterior density of all parameters is largest.
        standard_error: Of it over repetitions of the data; nan if not known.
        mc_error: What the draws of latents add to that.
        posterior: Figures of its posterior; None if that was not asked for.
    """

    value: float
    standard_error: float
    mc_error: float
    posterior: Figures | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; null stands for what is not known."""
        return {
            "value": self.value,
            "standard_error": finite_or_none(self.standard_error),
            "mc_error": finite_or_none(self.mc_error),
            "posterior": self.posterior and self.posterior.to_json(),
        }


@dataclass(frozen=True, eq=False)
class Learned:
    """Parameters learned from rows of data, and how far to trust them.

    Attributes:
        method: exact, laplace or flow: how latents of rows are averaged over.
        why: Why so, in one clause.
        model: The model in which the parameters are constants.
        parameters: Each of their numbers, by the program's own name.
        covariance: Of these numbers, in their order; nan if not known.
        errors_from: What standard errors are computed from.
        log_likelihood: Of all rows at these parameters, in nats.
        log_prior: Of these parameters, in nats.
        num_rows: How many rows there are.
        num_draws: Draws of each row's latents in the last round.
        ess: Effective number of them: the median over rows, and the 5 % quantile.
        rounds: How many rounds it took.
        has_converged: Whether the last round moved less than its error.
        particles: Weighted rows of the parameters; None if they were not asked for.
        cautions: What to know beside the figures.
        is_trusted: Whether the figures can be trusted.
        seconds: How long it took.
    """

    method: str
    why: str
    model: Model
    parameters: Mapping[str, Estimate]
    covariance: Float[Tensor, "parameter parameter"]
    errors_from: str
    log_likelihood: float
    log_prior: float
    num_rows: int
    num_draws: int
    ess: tuple[float, float]
    rounds: int
    has_converged: bool
    particles: Particles | None
    cautions: tuple[Caution, ...]
    is_trusted: bool
    seconds: float

    def __repr__(self) -> str:
        """Return one line; `summary` has the errors."""
        values = [f"{name} = {e.value:.5g}" for name, e in self.parameters.items()]
        if len(values) > _MOST_SHOWN:
            values[_MOST_SHOWN:] = [f"{len(values) - _MOST_SHOWN} more"]
        return (
            f"<Learned by {self.method} from {self.num_rows} rows, {', '.join(values)}"
            f"{'' if self.is_trusted else ', not to be trusted'}>"
        )

    def summary(self) -> str:
        """Return the table of parameters, with how far to trust it."""
        return as_text(learning_table(self.to_json()))

    def save(self, path: Path | str) -> None:
        """Write the folder of what was learned, whole or not at all.

        It holds `learned.json`, a graph document with the parameters as constants,
        `learning.json`, and `particles.npz` where a posterior was asked for.

        Raises:
            FlowsError: If something else is in the place, or it cannot be written.
        """
        with new_folder(path, marker=LEARNING, own=LEARNED_FILES) as folder:
            document = self.model.graph.document
            assert document is not None  # noqa: S101 - every checked graph has one
            dump_document(document, folder / "learned.json")
            names = NodeNames(dict(self.model.graph.labels))
            dump_names(names, document, folder / "learned.json")
            save_summary(folder / LEARNING, self.to_json())
            if self.particles is not None:
                self.particles.save(folder / "particles.npz")

    def to_json(self) -> dict[str, Any]:
        """Return what was learned as plain values, by `learning.schema.json`."""
        median, low = self.ess
        return {
            "method": self.method,
            "why": self.why,
            "ok": self.is_trusted,
            "cautions": [str(caution) for caution in self.cautions],
            "parameters": {n: e.to_json() for n, e in self.parameters.items()},
            "covariance": [
                [finite_or_none(value) for value in row]
                for row in self.covariance.tolist()
            ],
            "errors_from": self.errors_from,
            "log_likelihood": finite_or_none(self.log_likelihood),
            "log_prior": finite_or_none(self.log_prior),
            "num_rows": self.num_rows,
            "num_draws": self.num_draws,
            "ess": {"median": finite_or_none(median), "q05": finite_or_none(low)},
            "rounds": self.rounds,
            "has_converged": self.has_converged,
            "seconds": self.seconds,
        }
