"""Compares a trained flow with neural posterior estimation of sbi, at equal time.

    python -m tests.bench.rival_npe [--seconds S] [--seed N] [--output FILE] [NAME ...]

Both get draws of the same model, latents in free coordinates, on one core, and so many
seconds for training, draws included. The rival is NPE with its
default estimator and batch, 50,000 simulations made at once, epoch after epoch until
the time is over, the estimator with the best validation loss kept. Then, for the same
data sets: ESS / N of weighted draws, and the mean log density of held-out latents given
their data. Discrete latents are summed out for both.

References:
    Tejero-Cantero et al., "sbi: A toolkit for simulation-based inference", JOSS 2020.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sbi.inference import NPE
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

import flows
from flows.flow.protocol import Flow
from flows.inference.weights import ess
from flows.marginal.collapsed import CollapsedModel
from flows.marginal.target import target_of
from flows.model.model import Model

PROGRAMS = (
    "arithmetic_circuit",
    "eight_schools",
    "state_space",
    "stochastic_volatility",
    "logistic_regression",
    "matrix_factorization",
    "bayesian_neural_network",
    "gaussian_mixture",
)
_SIMULATIONS = 50_000
_HELD_OUT = 1000
_DATA_SETS = 50
_PARTICLES = 300

Sampled = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Draws for rows of data, in free coordinates, with their log densities."""


def compare(program: str, seconds: float, seed: int) -> list[dict[str, Any]]:
    """Return the figures of both on one program."""
    model = Model.compile(Path("clj-programs") / f"{program}.daphne")
    target = target_of(model)
    settings = {"budget_seconds": seconds}
    posterior = flows.train(model, config=settings, kind="auto", seed=seed)
    ours = _figures(target, *_of_flow(posterior.flow))
    theirs = _figures(target, *_of_rival(target, seconds, seed))
    return [
        {"program": program, "by": name, "seconds": seconds, **found}
        for name, found in (("train --kind auto", ours), ("sbi NPE", theirs))
    ]


def _of_flow(flow: Flow) -> tuple[Sampled, Callable[[Tensor, Tensor], Tensor]]:
    def sampled(observed: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        drawn = flow.rsample_and_log_prob(observed, generator=generator)
        return drawn.free, drawn.log_prob

    def log_prob(free: Tensor, observed: Tensor) -> Tensor:
        return flow.log_prob(free, free[:, :0], observed)

    return sampled, log_prob


def _of_rival(
    target: Model | CollapsedModel, seconds: float, seed: int
) -> tuple[Sampled, Callable[[Tensor, Tensor], Tensor]]:
    torch.manual_seed(seed)
    begun = time.perf_counter()
    draws = target.sample(_SIMULATIONS, generator=torch.Generator().manual_seed(seed))
    free = target.unconstrain(draws.latents)[0].float()
    log = SummaryWriter(tempfile.mkdtemp())  # else into the current folder
    rival = NPE(show_progress_bars=False, summary_writer=log)
    rival.append_simulations(free, draws.observed.float())
    num_epochs = 0
    while num_epochs == 0 or time.perf_counter() - begun < seconds:
        num_epochs += 1
        estimator = rival.train(
            max_num_epochs=num_epochs,
            resume_training=num_epochs > 1,
            stop_after_epochs=10**9,
        )

    def sampled(observed: Tensor) -> tuple[Tensor, Tensor]:
        found, log_prob = estimator.sample_and_log_prob(
            torch.Size([1]), condition=observed.float()
        )
        return found[0].double(), log_prob[0].double()

    def log_prob(free: Tensor, observed: Tensor) -> Tensor:
        found: Tensor = estimator.log_prob(free.float()[None], observed.float())[0]
        return found.double()

    return sampled, log_prob


@torch.no_grad()
def _figures(
    target: Model | CollapsedModel,
    sampled: Sampled,
    log_prob: Callable[[Tensor, Tensor], Tensor],
) -> dict[str, float]:
    held = target.sample(_HELD_OUT, generator=torch.Generator().manual_seed(77))
    scores = log_prob(target.unconstrain(held.latents)[0], held.observed)
    rows = held.observed[:_DATA_SETS].repeat_interleave(_PARTICLES, 0)
    free, found = sampled(rows)
    log_weights = target.log_joint_free(free, rows) - found
    fractions = ess(log_weights.reshape(_DATA_SETS, -1)) / _PARTICLES
    levels = torch.tensor([0.5, 0.1], dtype=fractions.dtype)
    median, low = torch.quantile(fractions, levels).tolist()
    return {"ess_median": median, "ess_10": low, "log_q": float(scores.mean())}


def main() -> None:
    """Print a table, and write its rows as JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("programs", nargs="*", default=PROGRAMS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: list[dict[str, Any]] = []
    print("| program | by | ESS/N median (10 %) | held-out log q |\n|---|---|---|---|")
    for program in asked.programs:
        for row in compare(program, asked.seconds, asked.seed):
            found.append(row)
            print(
                f"| {row['program']} | {row['by']} | {row['ess_median']:.3f} "
                f"({row['ess_10']:.3f}) | {row['log_q']:.2f} |",
                flush=True,
            )
    if asked.output is not None:
        asked.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
