"""This file owns `Inference`: what is known of one data set, and what it is worth."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..inference.cautions import Caution
from ..inference.particles import Particles
from ..model.model import Model
from ..report.inference_table import inference_table
from ..report.tables import as_text
from ..storage.export import save_summary
from ..storage.folders import new_folder
from ..storage.json_values import finite_or_none
from .figures import Figures
from .islands import Islands

__all__ = ["ANSWER", "OWN_FILES", "Inference", "plain_value"]

ANSWER = "inference.json"
"""Name of the file that holds the answer."""

OWN_FILES = (ANSWER, "particles.npz", "graph.json", "graph.names.json", "report.html")
"""Names of the files in a folder of an answer, its page included; another file is
never replaced."""


@dataclass(frozen=True, eq=False)
class Inference:
    """What is known of one data set, and how far to trust it.

    Attributes:
        method: exact, prior, flow, laplace or smc.
        why: Why this method, in one clause.
        model: The model.
        observed: The data.
        num_particles: Number of particles.
        draw: Returns the particles, the same ones at every call.
        log_evidence: In nats; 0 where nothing is observed.
        log_evidence_standard_error: In nats; 0 if exact, nan if not known.
        ess: Effective sample size.
        k_hat: Pareto shape of the weights; nan where there is none.
        latents: Figures by the program's own name of a number.
        returned: The return value in its own shape, with figures at its leaves.
        cautions: What to know beside the figures.
        is_trusted: Whether the figures can be trusted.
        seconds: How long it took.
        islands: The independent runs of a tempered answer; None of another.
    """

    method: str
    why: str
    model: Model
    observed: Float[Tensor, " observed"]
    num_particles: int
    draw: Callable[[], Particles]
    log_evidence: float
    log_evidence_standard_error: float
    ess: float
    k_hat: float
    latents: Mapping[str, Figures]
    returned: Any
    cautions: tuple[Caution, ...]
    is_trusted: bool
    seconds: float
    islands: Islands | None = None

    def __repr__(self) -> str:
        """Return one line; `summary` has the figures."""
        return (
            f"<Inference by {self.method}, log evidence {self.log_evidence:.7g} ± "
            f"{self.log_evidence_standard_error:.2g}, ESS {self.ess:.0f} of "
            f"{self.num_particles}{'' if self.is_trusted else ', not to be trusted'}>"
        )

    @property
    def particles(self) -> Particles:
        """Weighted rows of all latents; those of an exact answer are drawn here."""
        return self.draw()

    def doubted(self, *cautions: Caution) -> "Inference":
        """Return the answer as one that is not to be trusted, for reasons more."""
        return replace(self, cautions=(*cautions, *self.cautions), is_trusted=False)

    def summary(self) -> str:
        """Return the table of latents and return value, with how far to trust it."""
        return as_text(inference_table(self.to_json(), "the latents"))

    def save(self, path: Path | str) -> None:
        """Write `inference.json` and `particles.npz` into a folder, whole or not.

        Raises:
            FlowsError: If something else is in the place, or it cannot be written.
        """
        with new_folder(path, marker=ANSWER, own=OWN_FILES) as folder:
            self.fill(folder)

    def fill(self, folder: Path) -> None:
        """Write `inference.json` and `particles.npz` into a folder that is there."""
        self.particles.save(folder / "particles.npz")
        save_summary(folder / ANSWER, self.to_json())

    def to_arviz(self) -> Any:
        """Return particles and data as ArviZ reads them: a `DataTree` with one chain.

        The draws of its group `posterior` are weighted by `sample_stats/log_weight`;
        the group `observed_data` has the data by label.

        Raises:
            FlowsError: If ArviZ, an extra, is not installed.
        """
        return self.particles.to_arviz(
            observed_data={
                v.label: self.observed[v.start : v.stop].reshape(v.shape).numpy()
                for v in self.model.layout.observed
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return the answer as plain values; null stands for what is not finite."""
        return {
            "method": self.method,
            "why": self.why,
            "ok": self.is_trusted,
            "cautions": [str(caution) for caution in self.cautions],
            "log_evidence": {
                "value": finite_or_none(self.log_evidence),
                "standard_error": finite_or_none(self.log_evidence_standard_error),
            },
            "ess": finite_or_none(self.ess),
            "num_particles": self.num_particles,
            "observed": dict(
                zip(self._observed_names, self.observed.tolist(), strict=True)
            ),
            "khat": finite_or_none(self.k_hat),
            "latents": {name: f.to_json() for name, f in self.latents.items()},
            "return": plain_value(self.returned),
            "seconds": self.seconds,
            "tempering": None if self.islands is None else self.islands.to_json(),
        }

    @property
    def _observed_names(self) -> list[str]:
        return [n for v in self.model.layout.observed for n in v.column_names]


def plain_value(value: Any) -> Any:
    """Return a return value with plain values in place of figures."""
    match value:
        case Figures():
            return value.to_json()
        case list():
            return [plain_value(item) for item in value]
        case dict():
            return {key: plain_value(item) for key, item in value.items()}
        case bool() | int() | str() | None:
            return value
        case float() if math.isfinite(value):
            return value
    return str(value)
