"""Tells draws of a trained flow from exact ones: the two-sample tests of the tasks.

    python -m tests.bench.bench_tasks [--seconds S] [--seed N] [--output F] [NAME ...]

Every program of clj-programs/tasks is trained by `train --kind auto` for so many
seconds of processor time on one core. For each of several data sets that the program
draws, and whose posterior can be drawn from exactly, 1,000 draws of the flow, and as
many of its weighted draws, are set beside as many exact ones
(`tests/oracles/tasks.py`): C2ST is the accuracy of a network that tells them apart, by
five-fold cross-validation. 0.5 is perfect; what two exact samples get is printed beside
it. The classifier is that of the published benchmark, two layers of ten units per
column.

References:
    Lueckmann et al., "Benchmarking Simulation-Based Inference", AISTATS 2021.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

import flows
from flows.inference.weights import ess

from ..oracles.tasks import POSTERIORS, TASKS

_DATA_SETS = 4
_DRAWS = 1000
_WEIGHTED = 20 * _DRAWS


def c2st(exact: np.ndarray, other: np.ndarray) -> float:
    """Return how well a network tells two samples apart: 0.5 not at all, 1 always."""
    mean, sd = exact.mean(0), exact.std(0)
    rows = (np.concatenate([exact, other]) - mean) / sd
    labels = np.repeat([0, 1], [len(exact), len(other)])
    units = 10 * exact.shape[1]
    network = MLPClassifier((units, units), max_iter=1000, random_state=1)
    folds = KFold(5, shuffle=True, random_state=1)
    return float(cross_val_score(network, rows, labels, cv=folds).mean())


def measure(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Return C2ST and ESS / N of one program, means over data sets."""
    data = TASKS / f"{name}.csv"
    model = flows.Model.compile(
        TASKS / f"{name}.daphne", data=data if data.exists() else None
    )
    settings = {"budget_seconds": seconds}
    posterior = flows.train(model, config=settings, kind="auto", seed=seed)
    observed = model.sample(10 * _DATA_SETS, generator=_generator(77)).observed
    rng = np.random.default_rng(seed)
    found = []
    for row in observed:
        try:
            exact = POSTERIORS[name](row.numpy(), _DRAWS, rng)
            again = POSTERIORS[name](row.numpy(), _DRAWS, rng)
        except ValueError:
            continue
        width = exact.shape[1]
        plain = posterior.sample(row, _DRAWS, seed=1, weighted=False)
        weighted = posterior.sample(row, _WEIGHTED, seed=2)
        equal = weighted.resampled(_DRAWS, generator=_generator(3)).particles
        others = [each.latents[:, :width].numpy() for each in (plain, equal)]
        share = float(ess(weighted.log_weights)) / _WEIGHTED
        found.append([share, *(c2st(exact, other) for other in (*others, again))])
        if len(found) == _DATA_SETS:
            break
    names = ("ess", "flow", "weighted", "exact")
    return {
        "program": name,
        "j": posterior.metrics["best_j"],
        **dict(zip(names, np.mean(found, 0).tolist(), strict=True)),
    }


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def main() -> None:
    """Measure the tasks that are asked for, all if none is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[*POSTERIORS], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=argparse.FileType("w"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # budgets are of processor time
    results = []
    for name in options.names:
        results.append(measure(name, options.seconds, options.seed))
        print(json.dumps(results[-1]), flush=True)
    if options.output:
        json.dump(results, options.output)


if __name__ == "__main__":
    main()
