"""This file gives nuisances to the latents at which a short training lacks most.

A flow with as many nuisances for each latent is trained for a share of the budget, and
an autoregressive flow, which is quicker to train, for another. What the first lacks at
the conditional of a latent z with nuisances a, more than the second, is the gap

    E[log q'(z | its parents) + log N(a) - log q(z, a | their parents)]

over joint draws, in nats. One nuisance at a time is added where the largest gap is left
for each nuisance beyond the first, until the flow has as many weights as with even
shares.
"""

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from ..cnf.kind import field_lengths
from ..cnf.vector_field import FieldConfig
from ..errors import ArgumentError
from ..flow.kinds import for_weights, solved_with
from ..flow.protocol import Flow
from ..flow.structure import Structure
from ..marginal.collapsed import CollapsedModel
from ..model.model import Model
from ..model.standard_normal import standard_normal_log_prob
from ..training.batches import TargetModel, draw_batch
from ..training.config import CHOSEN, TrainingConfig, training_config_from
from ..training.economy import preparing_draws
from ..training.estimates import Estimate, estimate
from ..training.loop import fit
from ..training.processes import Ranks, local_size
from ..training.state import Report
from .chosen import FEWEST, Chosen
from .material import Material, Target
from .new_flow import new_flow

__all__ = ["EVEN", "Pilot", "allotted", "check_choosable", "gaps_of"]

EVEN = 5
"""Nuisances of each latent, where nothing says that one needs more than another."""

_PILOT = 0.2
_REFERENCE = 0.1
"""Shares of the budget."""
_REFERENCE_ITERATIONS = 0.5
"""Share of the iterations, which are far quicker than those of the pilot."""
_REFERENCE_KIND = "autoregressive"
_DRAWS = 4_000
_ROWS = 500
_TOLERANCE = 1e-5
_SHOWN = 12
"""Latents whose nuisances are said in words."""
_ERRORS = 2.0
"""Standard errors that a gap must be above to be one."""


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """The short trainings by which nuisances are chosen.

    Attributes:
        model: The target.
        material: What is trained on.
        settings: Of the whole training, its nuisances not yet chosen.
        seed: Of every draw.
        device: Where the flow is trained.
        engine: What solves it.
        ranks: The processes that share the run.
        on_report: Called with reports, their phase that of a pilot.
        on_compile: Called before a kernel is compiled.
    """

    model: Model
    material: Material
    settings: TrainingConfig
    seed: int
    device: torch.device
    engine: str
    ranks: Ranks
    on_report: Callable[[Report], None] | None
    on_compile: Callable[[], None] | None

    def chosen(self, started: float) -> Chosen:
        """Return the nuisances of each latent, found by two short trainings.

        Args:
            started: When the work that the budget is for began (`time.perf_counter`).

        Raises:
            ArgumentError: If discrete latents have learned heads.
        """
        check_choosable(self.settings, self.material.training)
        flow, _, waited = self._trained(
            replace(
                self.settings,
                augment=EVEN,
                max_iterations=math.ceil(_PILOT * self.settings.max_iterations),
            ),
            _PILOT,
            0.0,
            self.device,
            self.engine,
        )
        shared = ("objective", "integrate", "heads", "budget_seconds")
        table = {key: getattr(self.settings, key) for key in shared}
        table["max_iterations"] = math.ceil(
            _REFERENCE_ITERATIONS * self.settings.max_iterations
        )
        reference, last, more = self._trained(
            training_config_from({**table, "kind": _REFERENCE_KIND}, "the reference"),
            _REFERENCE,
            _PILOT,
            torch.device("cpu"),
            "auto",
        )
        counts = self.ranks.shared(lambda: self._counts(flow, reference))
        self._report(replace(last, status=f"nuisances: {self._listed(counts)}"))
        compiling = waited + more  # done once for all runs
        seconds = self.ranks.shared(lambda: time.perf_counter() - started - compiling)
        return Chosen(counts, seconds)

    def _counts(self, flow: Flow, reference: Flow) -> dict[str, int]:
        generator = torch.Generator().manual_seed(self.seed)
        gaps = gaps_of(self.material.held_out, flow, reference, generator=generator)
        found = [gap.held_mean for gap in gaps]
        needed = [
            mean if mean > _ERRORS * gap.standard_error else 0.0
            for mean, gap in zip(found, gaps, strict=True)
        ]
        counts = allotted(flow.structure, needed, self.settings.flow)
        return dict(zip(flow.structure.names, counts, strict=True))

    def _listed(self, counts: Mapping[str, int]) -> str:
        """Return counts in words, the most first."""
        label = {v.name: v.label for v in self.model.layout.latents}
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        parts = [f"{label[name]} {count}" for name, count in ordered[:_SHOWN]]
        return ", ".join([*parts, "..."] if len(ordered) > _SHOWN else parts)

    def _report(self, report: Report) -> None:
        if self.on_report is not None and self.ranks.rank == 0:
            self.on_report(report)

    def _trained(
        self,
        settings: TrainingConfig,
        share: float,
        before: float,
        device: torch.device,
        engine: str,
    ) -> tuple[Flow, Report, float]:
        """Return a flow that was trained for a share of the budget, and its end.

        With the seconds that its kernels took to be made.
        """
        short = replace(
            settings,
            budget_seconds=share * settings.budget_seconds,
            num_certifications=1,
        )
        flow, _ = new_flow(
            self.model,
            self.material,
            short,
            seed=self.seed,
            alone=None,
            ranks=self.ranks,
        )
        draws = preparing_draws(short, flow.structure, len(self.model.lowered.dag))
        begun = time.perf_counter()
        flow = solved_with(
            flow.to(device), engine, on_compile=self.on_compile, processes=local_size()
        )
        waited = time.perf_counter() - begun
        run = fit(
            self.material.training,
            flow,
            replace(short, normalisation_draws=draws),
            seed=self.seed,
            held_out=self.material.held_out,
            ranks=self.ranks,
        )
        for report in run:
            done = before + share * report.fraction
            last = _of_pilot(report, settings.kind, done)
            self._report(last)
        flow.load_state_dict(run.best_state_dict())
        return flow, last, waited


def check_choosable(settings: TrainingConfig, target: Target) -> None:
    """Raise if nuisances are to be chosen, and cannot be.

    Raises:
        ArgumentError: If discrete latents have learned heads.
    """
    has_heads = isinstance(target, CollapsedModel) and bool(target.sampled)
    if settings.augment == CHOSEN and has_heads:
        raise ArgumentError.at(
            "augment",
            "nuisances are not chosen beside heads of discrete latents",
            "a whole number, or a table of them by name",
            CHOSEN,
        )


def gaps_of(
    target: TargetModel,
    flow: Flow,
    reference: Flow,
    *,
    generator: torch.Generator,
    num_draws: int = _DRAWS,
) -> list[Estimate]:
    """Return what a flow lacks at each conditional, in nats, in sampling order.

    Args:
        target: Drawn from.
        flow: With nuisances.
        reference: Along the same inverse, without any.
        generator: Of the draws.
        num_draws: How many.
    """
    exact, other = (for_weights(each, _TOLERANCE) for each in (flow, reference))
    parts = []
    for start in range(0, num_draws, _ROWS):
        rows = min(_ROWS, num_draws - start)
        batch = draw_batch(target, exact, rows, generator=generator, scored=False)
        with torch.no_grad():
            q = exact.log_prob_per_node(batch.free, batch.nuisances, batch.observed)
            none = batch.nuisances[:, :0]
            better = other.log_prob_per_node(batch.free, none, batch.observed)
        parts.append(better + _of_nuisances(exact.structure, batch.nuisances) - q)
    return [estimate(terms) for terms in torch.cat(parts).unbind(1)]


def allotted(
    structure: Structure, gaps: Sequence[float], config: FieldConfig
) -> tuple[int, ...]:
    """Return nuisances of each block, for no more weights than even shares take.

    Args:
        structure: Of the flow.
        gaps: What it lacks at each block with even shares, in nats; none below 0.
        config: The flow's shape.
    """
    size = len(structure.blocks)
    most = _weights(structure, [EVEN] * size, config)
    if not any(gaps):
        return (EVEN,) * size
    order = _order(gaps)
    fits, num = 0, 1
    added: list[int] = []

    def is_light(count: int) -> bool:
        """Return whether so many added nuisances take no more weights."""
        added.extend(islice(order, max(0, count - len(added))))
        return _weights(structure, _counted(added[:count], size), config) <= most

    while is_light(num):
        fits, num = num, 2 * num
    while num - fits > 1:
        middle = (fits + num) // 2
        fits, num = (middle, num) if is_light(middle) else (fits, middle)
    return tuple(_counted(added[:fits], size))


def _order(gaps: Sequence[float]) -> Iterator[int]:
    """Yield blocks, each time that of the largest gap for each nuisance there."""
    waiting = [(-gap, place, FEWEST) for place, gap in enumerate(gaps)]
    heapq.heapify(waiting)
    while True:
        _, place, count = waiting[0]
        yield place
        heapq.heapreplace(waiting, (-gaps[place] / count, place, count + 1))


def _counted(added: Sequence[int], size: int) -> list[int]:
    """Return nuisances of each block with some added."""
    more = Counter(added)
    return [FEWEST + more[place] for place in range(size)]


def _weights(structure: Structure, counts: Sequence[int], config: FieldConfig) -> int:
    """Return how many numbers a flow with so many nuisances has."""
    blocks = zip(structure.blocks, counts, strict=True)
    changed = replace(
        structure,
        blocks=tuple(replace(block, nuisances=count) for block, count in blocks),
    )
    return sum(field_lengths(changed, config).values())


def _of_nuisances(structure: Structure, nuisances: Tensor) -> Tensor:
    """Return the log density of each block's nuisances, in nats."""
    parts = torch.split(nuisances, [block.nuisances for block in structure.blocks], 1)
    return torch.stack([standard_normal_log_prob(part) for part in parts], 1)


def _of_pilot(report: Report, kind: str, fraction: float) -> Report:
    """Return the report of a pilot as one of the whole training."""
    return replace(
        report,
        phase=f"nuisances, {kind}",
        status="ok",
        certified=None,
        certified_forward=None,
        best=math.nan,
        ess=None,
        fraction=fraction,
    )
