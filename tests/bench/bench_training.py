"""This file times training iterations of several configurations, interleaved.

One iteration takes 100 joint draws, solves them in both directions, takes the gradient
of the symmetric KL and makes a step of Adam. Fast iterations come in periods of 25
whose draws are made at once, as in training. The gradient is the total one, in one row
the path gradient, training's default, which needs a second solve. Run as

    python -m tests.bench.bench_training [--repeats 7] [--threads 1]

Prints the table that `flows/README.md` quotes and writes runs/bench/training.json.
Times are medians of processor time (all threads) with the wall time in brackets; a
ratio is the median of the ratios within one repeat, so that a busy machine slows both.

- fast: the fused kernel, graded Runge-Kutta steps, exact divergence.
- paper: Dormand-Prince at 1e-5 with the adjoint and Hutchinson's divergence.
- eager: the same network and steps as fast, in eager torch with dense masked weights.
- full: the dense network without masks, as many equal steps, Hutchinson's divergence.
- kernel, torch: a step of the forward KL of 512 rows by the autoregressive flow.

The circuit's network is trained first, as a solver needs more steps then. The bias of
the fast solver is the difference in J to an adaptive float64 solve at 1e-6 on the same
fresh draws; the circuit is timed with the fewest steps of a bias up to 0.005 nats.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from daphne_bridge.compiler import compile_program
from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.cnf.baselines import build_baseline
from flows.cnf.engine import Engine, TorchEngine
from flows.cnf.flow import ConditionalFlow
from flows.cnf.fused.engine import FusedEngine
from flows.cnf.fused.readiness import warm_up
from flows.cnf.paper_engine import AdjointEngine
from flows.cnf.pushed_noise import PushedNoiseEngine
from flows.cnf.vector_field import FieldConfig
from flows.experiments.published_training import scales_from_model
from flows.flow.building import build_structure, structure_of
from flows.flow.kinds import build_flow, certified, solved_with
from flows.flow.protocol import Flow
from flows.model.model import Model
from flows.training.batches import Batch, draw_batch
from flows.training.config import TrainingConfig
from flows.training.estimates import estimate
from flows.training.loop import fit
from flows.training.losses import flow_matching, symmetric, symmetric_path
from flows.training.weights import FlatWeights

ROOT = Path(__file__).resolve().parents[2]
CLIQUES = FieldConfig(hidden=0)
BATCH = 100
STEPS = 10
TRAINING = TrainingConfig(
    flow=CLIQUES,
    augment=10,
    budget_seconds=0.0,
    max_iterations=3000,
    batch_size=BATCH,
    final_batch_size=BATCH,
    num_certifications=1,
    certify_draws=200,
)
PERIOD = 25
BIAS_DRAWS = 3000
MOST_BIAS = 5e-3
TRIED_STEPS = range(3, 31)
WARM_BATCH = 512


@dataclass(frozen=True)
class Seconds:
    """What one iteration took."""

    processor: float
    wall: float


@dataclass(frozen=True)
class Row:
    """A comparison of two configurations."""

    case: str
    fast: str
    other: str
    fast_ms: float
    fast_wall_ms: float
    other_ms: float
    other_wall_ms: float
    ratio: float
    wall_ratio: float
    required: str


def state_space(steps: int) -> str:
    data = " ".join("0.5" for _ in range(steps))
    return f"""
(defn step [t states ys]
  (let [x (sample (normal (last states) 0.1))
        y (observe (normal x 0.1) (get ys (+ t 1)))]
    (conj states x)))
(let [ys [{data}]
      x (sample (normal 0 5))
      y (observe (normal x 0.1) (first ys))]
  (loop {steps - 1} [x] step ys))"""


def graph_of(program: str) -> Graph:
    compiled = compile_program(program, "bench.daphne")
    return Graph.from_document(document_from_json(compiled.document, "bench.json"))


def flow_of(model: Model, augment: int, config: FieldConfig) -> ConditionalFlow:
    structure = build_structure(invert(model.graph), model.layout, augment)
    flow = build_flow(structure, config, seed=0)
    scales_from_model(flow, model, 10_000, seed=0)
    return flow


def full_flow(model: Model, like: ConditionalFlow, engine: Engine) -> ConditionalFlow:
    flow = build_baseline("full", like.structure, engine=engine, seed=0)
    scales_from_model(flow, model, 10_000, seed=0)
    return flow


def iteration(
    model: Model,
    flow: ConditionalFlow,
    engine: Engine,
    loss: Callable[..., Tensor] = symmetric,
    period: int = 1,
) -> Callable[[], Seconds]:
    """One iteration of a copy of the flow, with training's Adam; a rate of 0."""
    own = copy.deepcopy(flow).solved_by(engine)
    weights = FlatWeights(own)
    generator = torch.Generator().manual_seed(1)

    def run() -> Seconds:
        busy, wall = time.process_time(), time.perf_counter()
        drawn = draw_batch(model, own, BATCH * period, generator=generator)
        for start in range(0, BATCH * period, BATCH):
            batch = drawn.rows(start, start + BATCH)
            weights.gradient.zero_()
            loss(model, own, batch).mean().backward()
            weights.step(0.0, 10.0, 0.998)
        return Seconds(
            (time.process_time() - busy) / period, (time.perf_counter() - wall) / period
        )

    return run


def interleaved(
    runs: Mapping[str, Callable[[], Seconds]], repeats: int
) -> dict[str, list[Seconds]]:
    """Times of all variants, taken in turns; the first turn is not counted."""
    for run in runs.values():
        run()
    times: dict[str, list[Seconds]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(run())
    return times


def compared(
    case: str, times: Mapping[str, list[Seconds]], fast: str, other: str, required: str
) -> Row:
    pairs = list(zip(times[fast], times[other], strict=True))

    def median(name: str, kind: str) -> float:
        return statistics.median(getattr(each, kind) * 1e3 for each in times[name])

    return Row(
        case,
        fast,
        other,
        median(fast, "processor"),
        median(fast, "wall"),
        median(other, "processor"),
        median(other, "wall"),
        statistics.median(b.processor / a.processor for a, b in pairs),
        statistics.median(b.wall / a.wall for a, b in pairs),
        required,
    )


def fewest_steps(
    model: Model, flow: ConditionalFlow, fused: Callable[[int], Engine]
) -> tuple[int, str]:
    """The fewest steps of small bias, with a sentence that states it."""
    precise = copy.deepcopy(flow).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        batch = draw_batch(model, precise, BIAS_DRAWS, generator=generator)
        exact = symmetric(model, certified(precise), batch)
        single = Batch(*(getattr(batch, f.name).float() for f in fields(batch)))
        for steps in TRIED_STEPS:
            coarse = symmetric(model, flow.solved_by(fused(steps)), single)
            bias = estimate(coarse.double() - exact)
            if abs(bias.mean) <= MOST_BIAS:
                break
    return steps, (
        f"circuit after {TRAINING.max_iterations} iterations: J "
        f"{estimate(exact).sentence()}; bias of {steps} steps {bias.sentence()}"
    )


def circuit_rows(repeats: int, fused: Callable[[int], Engine]) -> tuple[list[Row], str]:
    text = (ROOT / "clj-programs" / "arithmetic_circuit.daphne").read_text()
    model = Model.from_graph(graph_of(text))
    flow = flow_of(model, 10, CLIQUES)
    for _ in fit(model, flow.with_engines(fused), TRAINING, seed=0):
        pass
    steps, sentence = fewest_steps(model, flow, fused)
    paper = AdjointEngine()
    usual = flow_of(model, 2, FieldConfig())
    times = interleaved(
        {
            "fast": iteration(model, flow, fused(steps), period=PERIOD),
            "fast, path": iteration(
                model, flow, fused(steps), symmetric_path, period=PERIOD
            ),
            "paper": iteration(model, flow, paper),
            "eager": iteration(model, flow, TorchEngine(steps)),
            "fast, default": iteration(model, usual, fused(STEPS), period=PERIOD),
            "eager, default": iteration(model, usual, TorchEngine(STEPS)),
        },
        repeats,
    )
    counts = paper.counts
    sentence += (
        f"; the paper's solver: {counts.to_latent} + {counts.to_base} evaluations and "
        f"{counts.backward} of the adjoint"
    )
    cliques = f"circuit, 10 nuisances, {steps} steps"
    default = f"circuit, default network, {STEPS} steps"
    return [
        compared(cliques, times, "fast", "paper", ">= 40"),
        compared(f"{cliques}, path gradient", times, "fast, path", "paper", "-"),
        compared(cliques, times, "fast", "eager", "-"),
        compared(default, times, "fast, default", "eager, default", "-"),
    ], sentence


def state_space_rows(repeats: int, fused: Callable[[int], Engine]) -> list[Row]:
    runs = {}
    for length in (50, 200):
        model = Model.from_graph(graph_of(state_space(length)))
        flow = flow_of(model, 2, CLIQUES)
        # shorter periods: an iteration takes ten times as long
        runs[f"fast, {length}"] = iteration(model, flow, fused(STEPS), period=5)
    full = PushedNoiseEngine(torch.Generator().manual_seed(0), STEPS)
    runs["full"] = iteration(model, full_flow(model, flow, full), full)
    runs["eager"] = iteration(model, flow, TorchEngine(STEPS))
    times = interleaved(runs, repeats)
    name = f"state space of 200, 2 nuisances, {STEPS} steps"
    return [
        compared(name, times, "fast, 200", "full", ">= 10"),
        compared(name, times, "fast, 200", "eager", "-"),
        compared("state space, 200 : 50", times, "fast, 50", "fast, 200", "<= 6"),
    ]


def autoregressive_rows(repeats: int) -> list[Row]:
    """One step of the warm start on each program, by the kernel and by torch."""
    rows = []
    for name in ("arithmetic_circuit", "bayesian_neural_network"):
        text = (ROOT / "clj-programs" / f"{name}.daphne").read_text()
        model = Model.from_graph(graph_of(text))
        structure = structure_of(model, 0, seed=0)
        flow = build_flow(structure, kind="autoregressive", seed=0)
        scales_from_model(flow, model, 10_000, seed=0)
        runs = {
            engine: warm_iteration(model, flow, engine) for engine in ("fused", "torch")
        }
        times = interleaved(runs, repeats)
        case = f"{name}, autoregressive, {WARM_BATCH} rows"
        rows.append(compared(case, times, "fused", "torch", "-"))
    return rows


def warm_iteration(model: Model, flow: Flow, engine: str) -> Callable[[], Seconds]:
    """One step of the forward KL of a copy of the flow, draws of the model included."""
    own = solved_with(copy.deepcopy(flow), engine)
    weights = FlatWeights(own)
    generator = torch.Generator().manual_seed(1)

    def run() -> Seconds:
        busy, wall = time.process_time(), time.perf_counter()
        drawn = draw_batch(
            model, own, WARM_BATCH * PERIOD, generator=generator, scored=False
        )
        for start in range(0, WARM_BATCH * PERIOD, WARM_BATCH):
            batch = drawn.rows(start, start + WARM_BATCH)
            weights.gradient.zero_()
            flow_matching(own, batch, batch.log_joint).mean().backward()
            weights.step(0.0, 10.0, 0.998)
        return Seconds(
            (time.process_time() - busy) / PERIOD, (time.perf_counter() - wall) / PERIOD
        )

    return run


def main() -> None:
    """Measure, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warm_up(lambda: print("compiling the kernel, once"))
    fused = partial(FusedEngine, num_threads=options.threads)
    rows, sentence = circuit_rows(options.repeats, fused)
    rows += state_space_rows(options.repeats, fused)
    rows += autoregressive_rows(options.repeats)
    print(
        f"torch {torch.__version__}, {platform.machine()}, threads {options.threads}, "
        f"medians of {options.repeats}"
    )
    print(
        "| one iteration, 100 draws each way | ms | against | ms | ratio | required |"
    )
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.case} | {row.fast_ms:.1f} ({row.fast_wall_ms:.1f}) "
            f"| {row.other} | {row.other_ms:.0f} ({row.other_wall_ms:.0f}) "
            f"| {row.ratio:.1f} ({row.wall_ratio:.1f}) | {row.required} |"
        )
    print(sentence)
    folder = ROOT / "runs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    report = {"note": sentence, "rows": [asdict(row) for row in rows]}
    (folder / "training.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
