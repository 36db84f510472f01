r"""This file trains networks and objectives side by side and measures them alike.

For each run and at a few iterations: J by an adaptive float64 solve with the exact
divergence, on the same draws for all runs, and the evaluations that the paper's solver
(Dormand-Prince at 1e-5, Hutchinson's divergence) needs in each direction.

`structures`: faithful, full, random and FFJORD networks of the arithmetic circuit.
`objectives`: forward, reverse and symmetric KL with the faithful network.
"""

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cnf.baselines import (
    BASELINES,
    GatedField,
    build_baseline,
    published_parameter_count,
)
from ..cnf.engine import AdaptiveEngine, Engine
from ..cnf.engines import EngineFactory
from ..cnf.flow import ConditionalFlow
from ..cnf.paper_engine import AdjointEngine, ExactTraceEngine
from ..cnf.pushed_noise import PushedNoiseEngine
from ..cnf.vector_field import FieldConfig
from ..flow.structure import Structure
from ..model.model import Model
from ..training.batches import draw_batch
from ..training.estimates import Estimate, SymmetricEstimate, estimate_symmetric
from ..training.losses import forward_kl, reverse_kl, symmetric, symmetric_parts
from .kept_runs import KeptRun
from .published_training import (
    Loss,
    PublishedConfig,
    scales_from_model,
    train_as_published,
)

__all__ = [
    "OBJECTIVES",
    "ComparisonConfig",
    "Measurement",
    "band",
    "compare_objectives",
    "compare_structures",
    "measure",
    "objective_loss",
]

OBJECTIVES = {"forward": forward_kl, "reverse": reverse_kl, "symmetric": symmetric}

_SCALE_DRAWS = 10_000
_BATCH = 100
_EVALUATION_ROWS = 100
_TOLERANCE = 1e-5
_MEASURE_SEED = 1_000_003
_CLIQUES = FieldConfig(layers=4, hidden=0)
_FUSED_STEPS = 10

Note = Callable[[str], None]
"""Told in words what is done."""


@dataclass(frozen=True, slots=True)
class ComparisonConfig:
    """How long and how often.

    Args:
        iterations: of training.
        checkpoints: measurements over them, apart from the one before training.
        num_seeds: repetitions.
        num_draws: joint draws of a measurement.
        baseline_steps: graded steps that train networks without blocks, as many as of
            the faithful one where it matters: of fewer they learn the error; 0 for the
            paper's adaptive solver with the adjoint, some 20 times slower.
    """

    iterations: int
    checkpoints: int
    num_seeds: int
    num_draws: int
    baseline_steps: int

    @property
    def measured(self) -> tuple[int, ...]:
        """Iterations after which a run is measured."""
        parts = range(self.checkpoints + 1)
        return tuple(self.iterations * k // self.checkpoints for k in parts)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A flow at one moment.

    Args:
        j: with its two directions.
        to_latent: evaluations of the paper's solver to draw; -1 where it gave up.
        to_base: and to score.
    """

    j: SymmetricEstimate
    to_latent: int
    to_base: int

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "Measurement":
        """Return what `dataclasses.asdict` took apart."""
        j = {name: Estimate(**each) for name, each in values["j"].items()}
        return cls(SymmetricEstimate(**j), values["to_latent"], values["to_base"])


def compare_structures(
    model: Model,
    structure: Structure,
    config: ComparisonConfig,
    *,
    engine: EngineFactory,
    note: Note,
    kept: Path | None = None,
    so_far: bool = False,
) -> dict[str, Any]:
    """Return J and solver evaluations over training, per network.

    The faithful network trains on the fast engine with the full cliques. All networks
    of a seed come before the next seed, so that what an early end leaves compares them.

    Args:
        model: the target.
        structure: of the faithful network.
        config: how long.
        engine: makes the engine of the faithful network.
        note: told what is done.
        kept: folder of runs, which go on from where an earlier call was interrupted.
        so_far: only what kept runs have reached is returned, and nothing trained.
    """
    runs: dict[str, list[list[Measurement]]] = {name: [] for name in BASELINES}
    sizes = {}
    for seed, name in product(range(config.num_seeds), BASELINES):
        flow, trainer, exact = _network(name, structure, config, engine, seed)
        loss = objective_loss("symmetric", model, flow, trainer)
        place = _place(kept, model, structure, config, name, seed)
        sizes[name] = {
            "parameters": flow.field.num_parameters(),
            "multiply_adds": _multiply_adds(flow),
        }
        if so_far:
            runs[name].append(_measured(place))
            continue
        runs[name].append(_run(model, flow, trainer, loss, exact, config, seed, place))
        last = runs[name][-1][-1]
        note(f"{name}, seed {seed}: J {last.j.symmetric.sentence()}")
    results: dict[str, Any] = {"iterations": list(config.measured)}
    results["networks"] = {
        name: sizes[name] | _curves(found) for name, found in runs.items() if any(found)
    }
    results["published_faithful_parameters"] = published_parameter_count(structure)
    return results


def compare_objectives(
    model: Model,
    structure: Structure,
    config: ComparisonConfig,
    *,
    engine: EngineFactory,
    note: Note,
    kept: Path | None = None,
    so_far: bool = False,
) -> dict[str, Any]:
    """Return J over training, per objective; arguments as of `compare_structures`."""
    results: dict[str, Any] = {"iterations": list(config.measured), "objectives": {}}
    for name in OBJECTIVES:
        runs = []
        for seed in range(config.num_seeds):
            flow, trainer, exact = _network("faithful", structure, config, engine, seed)
            loss = objective_loss(name, model, flow, trainer)
            place = _place(kept, model, structure, config, name, seed)
            if so_far:
                runs.append(_measured(place))
                continue
            runs.append(_run(model, flow, trainer, loss, exact, config, seed, place))
            last = runs[-1][-1]
            note(f"{name} KL, seed {seed}: J {last.j.symmetric.sentence()}")
        if any(runs):
            results["objectives"][name] = _curves(runs)
    return results


def objective_loss(
    name: str, model: Model, flow: ConditionalFlow, engine: Engine
) -> Loss:
    """Return the mean loss of fresh batches of 100 rows per direction."""
    objective, solved = OBJECTIVES[name], flow.solved_by(engine)

    def loss(generator: torch.Generator) -> Tensor:
        batch = draw_batch(model, flow, _BATCH, generator=generator)
        return objective(model, solved, batch).mean()

    return loss


def measure(
    model: Model, flow: ConditionalFlow, exact: Engine, num_draws: int
) -> Measurement:
    """Return J and solver evaluations of a flow; the same draws each time.

    Args:
        model: the target.
        flow: it is copied, not changed.
        exact: an engine for quoted figures.
        num_draws: joint draws.
    """
    generator = torch.Generator().manual_seed(_MEASURE_SEED)
    precise = copy.deepcopy(flow).double().solved_by(exact)
    paper = AdjointEngine(torch.Generator().manual_seed(_MEASURE_SEED), _TOLERANCE)
    with torch.no_grad():
        batch = draw_batch(model, precise, num_draws, generator=generator)
        j = estimate_symmetric(*symmetric_parts(model, precise, batch))
        few = batch.rows(0, _EVALUATION_ROWS)
        published = flow.solved_by(paper)
        drawn = published.base_to_latent(
            few.base.to(torch.float32), few.observed.to(torch.float32)
        )[0]
        scored = published.log_prob(
            few.free.to(torch.float32),
            few.nuisances.to(torch.float32),
            few.observed.to(torch.float32),
        )
    if bool(drawn.isnan().any() or scored.isnan().any()):  # the solver gave up
        return Measurement(j, -1, -1)
    return Measurement(j, paper.counts.to_latent, paper.counts.to_base)


def band(values: Sequence[float]) -> dict[str, float]:
    """Return the median with the 16 % and 84 % quantiles of repetitions."""
    column = torch.tensor(list(values), dtype=torch.float64)
    low, high = torch.quantile(column, column.new_tensor([0.16, 0.84])).tolist()
    return {"median": statistics.median(values), "low": low, "high": high}


def _network(
    name: str,
    structure: Structure,
    config: ComparisonConfig,
    engine: EngineFactory,
    seed: int,
) -> tuple[ConditionalFlow, Engine, Engine]:
    """Return a new flow, the engine that trains it, and one for figures."""
    exact: Engine = ExactTraceEngine(_TOLERANCE)
    if name == "faithful":
        flow = ConditionalFlow(structure, _CLIQUES, seed)
        return flow, engine(_FUSED_STEPS), AdaptiveEngine(_TOLERANCE)
    noise, steps = torch.Generator().manual_seed(seed), config.baseline_steps
    trainer = (
        PushedNoiseEngine(noise, steps) if steps else AdjointEngine(noise, _TOLERANCE)
    )
    return build_baseline(name, structure, engine=exact, seed=seed), trainer, exact


def _place(
    folder: Path | None,
    model: Model,
    structure: Structure,
    config: ComparisonConfig,
    name: str,
    seed: int,
) -> KeptRun:
    """Return where a run is kept."""
    path = None if folder is None else folder / f"{name}-{seed}.pt"
    size = structure.state_dim
    return KeptRun(path, f"{name}, seed {seed}, {size}: {config}; {model.graph.digest}")


def _run(
    model: Model,
    flow: ConditionalFlow,
    trainer: Engine,
    loss: Loss,
    exact: Engine,
    config: ComparisonConfig,
    seed: int,
    place: KeptRun,
) -> list[Measurement]:
    """Train and measure, from where an earlier call was interrupted."""
    scales_from_model(flow, model, _SCALE_DRAWS, seed=seed)
    noise: torch.Generator | None = getattr(trainer, "generator", None)
    state = place.load()
    if state is None:
        found = [measure(model, flow, exact, config.num_draws)]
        training = None
    else:
        found = _measured(place)
        training = state["training"]
        if noise is not None:
            noise.set_state(state["noise"])
    due = set(config.measured)
    settings = PublishedConfig(config.iterations)
    for step in train_as_published(flow, loss, settings, seed=seed, state=training):
        is_measured = step.iteration in due
        if is_measured:
            found.append(measure(model, flow, exact, config.num_draws))
        if is_measured or place.is_due:
            place.save(
                {
                    "measured": [asdict(each) for each in found],
                    "training": step.state(),
                    "noise": None if noise is None else noise.get_state(),
                }
            )
    return found


def _measured(place: KeptRun) -> list[Measurement]:
    """Return what a kept run has reached."""
    state = place.load()
    values = [] if state is None else state["measured"]
    return [Measurement.from_values(each) for each in values]


def _curves(runs: Sequence[Sequence[Measurement]]) -> dict[str, Any]:
    """Figures of the runs that have come so far, at each moment that one has."""
    moments = [
        [run[k] for run in runs if len(run) > k] for k in range(max(map(len, runs)))
    ]
    return {
        "seeds": [len(moment) for moment in moments],
        "j_of_seeds": [[m.j.symmetric.mean for m in run] for run in runs if run],
        "j": [band([m.j.symmetric.mean for m in moment]) for moment in moments],
        "j_standard_error": [
            max(m.j.symmetric.standard_error for m in moment) for moment in moments
        ],
        "not_finite": [
            sum(m.j.symmetric.num_non_finite for m in moment) for moment in moments
        ],
        "to_latent": [band([m.to_latent for m in moment]) for moment in moments],
        "to_base": [band([m.to_base for m in moment]) for moment in moments],
    }


def _multiply_adds(flow: ConditionalFlow) -> int:
    field = flow.field
    if isinstance(field, GatedField):
        return field.multiply_adds()
    return flow.counted()[1].multiply_adds
