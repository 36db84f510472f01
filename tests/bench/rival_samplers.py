"""Times `infer` against NumPyro's NUTS and pocoMC on `clj-programs/posteriors`.

    make bench-rivals        or, where the extra `rivals` is installed,
    python -m tests.bench.rival_samplers [NAME ...] [--by infer nuts pocomc]
        [--output FILE]

Every run is a process of its own on one core. Seconds are of processor time, without
imports; NumPyro's compilation stands apart (the first of two equal runs less the
second), and so does that of the likelihood that pocoMC calls, which is NumPyro's model
as well. The effective sample size is that of the number of the program's return value
that is known worst, sd² by the squared Monte Carlo error of its mean. For pocoMC it is
that of its weights as if its particles were independent, which flatters it. NumPyro's
hierarchy is not centred, for both ways to write ours. `off` is the largest distance of
a mean from that of the long runs in `tests/oracles`, in posterior standard deviations.
FILE holds what was run before, and is shown with what is run now.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "clj-programs" / "posteriors"
NAMES = tuple(sorted(path.stem for path in PROGRAMS.glob("*.daphne")))
CHAINS, WARM_UP, DRAWS = 4, 1000, 1000
BATCH = 256
SMALL = "(let [x (sample (normal 0 1))] (observe (normal x 1) 1) x)"

Row = dict[str, Any]


def data_of(name: str) -> str:
    """Return the name of a program's data and model."""
    return name.removesuffix("_non_centred")


def by_infer(name: str) -> Row:
    """Time from the program's text to the answer."""
    import flows

    with TemporaryDirectory() as folder:  # loads what is loaded at first use
        small = Path(folder) / "small.daphne"
        small.write_text(SMALL)
        flows.infer(flows.Model.compile(small), method="laplace")
    started = time.process_time()
    data = PROGRAMS / f"{data_of(name)}.csv"
    model = flows.Model.compile(PROGRAMS / f"{name}.daphne", data=data)
    answer = flows.infer(model, seed=0)
    seconds = time.process_time() - started
    found = answer.returned
    return {
        "seconds": seconds,
        "method": answer.method,
        "ess": min((each.sd / each.mc_error) ** 2 for each in found),
        "means": [each.mean for each in found],
        "log_evidence": answer.log_evidence,
        "log_evidence_error": answer.log_evidence_standard_error,
    }


def by_nuts(name: str) -> Row:
    """Time four chains of NUTS at their defaults, one after the other."""
    import jax
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
    from numpyro.infer import MCMC, NUTS

    from ..oracles.nuts import MODELS, table

    jax.config.update("jax_enable_x64", True)
    model, numbers = MODELS[data_of(name)]
    run = MCMC(
        NUTS(model),
        num_warmup=WARM_UP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
        jit_model_args=False,
    )
    seconds = []
    for seed in (1, 2):
        started = time.process_time()
        run.run(jax.random.PRNGKey(seed), table(data_of(name)))
        draws = {k: np.asarray(v) for k, v in run.get_samples(True).items()}
        seconds.append(time.process_time() - started)
    kept = [draws[key] for key in numbers]
    return {
        "seconds": seconds[1],
        "compile_seconds": seconds[0] - seconds[1],
        "ess": min(float(effective_sample_size(each)) for each in kept),
        "r_hat": max(float(split_gelman_rubin(each)) for each in kept),
        "means": [float(each.mean()) for each in kept],
    }


def by_pocomc(name: str) -> Row:
    """Time pocoMC at its defaults."""
    import pocomc
    from scipy import stats

    n, half_cauchy, half = stats.norm, stats.halfcauchy, stats.halfnorm
    priors: dict[str, dict[str, Any]] = {
        "linear_regression": {
            "b0": n(0, 100), "b1": n(0, 10), "sigma": half_cauchy(scale=2.5),
        },
        "logistic_regression": {
            key: n(0, 5) for key in ("intercept", "w1", "w2", "w3", "w4", "w5")
        },
        "autoregression": {
            **{key: n(0, 10) for key in ("alpha", "b1", "b2", "b3", "b4", "b5")},
            "sigma": half_cauchy(scale=2.5),
        },
        "garch": {
            "mu": n(0, 10), "alpha0": half_cauchy(scale=2),
            "alpha1": stats.uniform(0, 1), "beta1": stats.uniform(0, 1),
        },
        "hierarchical": {
            "mu": n(0, 10), "tau": half_cauchy(scale=5), "sigma": half_cauchy(scale=5),
            **{f"z{i}": n(0, 1) for i in range(12)},
        },
        "student_regression": {
            "intercept": n(0, 10), "slope": n(0, 10), "sigma": half_cauchy(scale=2.5),
            "nu": stats.gamma(2, scale=10),
        },
        "gaussian_process": {
            "rho": stats.gamma(25, scale=1 / 4), "alpha": half(scale=2),
            "sigma": half(scale=1),
        },
        "mixture": {
            "share": stats.beta(5, 5), "low": n(0, 5), "gap": half(scale=5),
            "scale0": half(scale=2), "scale1": half(scale=2),
        },
        "hidden_markov_model": {
            "row0": stats.beta(2, 1), "row1": stats.beta(2, 1), "low": n(0, 5),
            "gap": half(scale=5),
        },
    }  # fmt: skip
    prior = priors[data_of(name)]
    evaluated = _in_batches(_likelihood(data_of(name), list(prior)))
    evaluated(np.full((1, len(prior)), 0.5))  # compiles
    started = time.process_time()
    sampler = pocomc.Sampler(
        pocomc.Prior(list(prior.values())),
        lambda x: evaluated(x)[0],
        vectorize=True,
        random_state=0,
    )
    sampler.run(progress=False)
    x, weights, _, _ = sampler.posterior()
    log_evidence, error = sampler.evidence()
    seconds = time.process_time() - started
    numbers = evaluated(x)[1]
    weights = weights / weights.sum()
    means = weights @ numbers
    gaps = (numbers - means) ** 2
    return {
        "seconds": seconds,
        "ess": float(((weights @ gaps) / (weights**2 @ gaps)).min()),
        "means": means.tolist(),
        "log_evidence": float(log_evidence),
        "log_evidence_error": float(error),
    }


def _likelihood(name: str, keys: list[str]) -> Callable[[Any], tuple[Any, Any]]:
    """Return log likelihood and numbers, compiled, of rows of a prior's parameters."""
    import jax
    import jax.numpy as jnp
    from numpyro import handlers

    from ..oracles.nuts import MODELS, table

    jax.config.update("jax_enable_x64", True)
    model, numbers = MODELS[name]
    data = table(name)

    def of_row(row: Any) -> tuple[Any, Any]:
        sites = dict(zip(keys, row, strict=True))
        if name == "garch":  # beta1 is uniform below 1 - alpha1
            sites["beta1"] = sites["beta1"] * (1 - sites["alpha1"])
        if name == "hierarchical":
            sites["z"] = jnp.stack([sites.pop(f"z{i}") for i in range(12)])
        if name == "hidden_markov_model":  # what a state keeps to itself
            stays0, stays1 = sites["row0"], sites["row1"]
            sites["row0"] = jnp.stack([stays0, 1 - stays0])
            sites["row1"] = jnp.stack([1 - stays1, stays1])
        seeded = handlers.seed(handlers.substitute(model, sites), 0)
        trace = handlers.trace(seeded).get_trace(data)
        seen = [each for each in trace.values() if each.get("is_observed")]
        terms = [each["fn"].log_prob(each["value"]).sum() for each in seen]
        return sum(terms), jnp.stack([trace[key]["value"] for key in numbers])

    return jax.jit(jax.vmap(of_row))


def _in_batches(
    of_rows: Callable[[Any], tuple[Any, Any]],
) -> Callable[[Any], tuple[Any, Any]]:
    """Return the same for any number of rows, compiled for one size alone."""

    def evaluated(x: Any) -> tuple[Any, Any]:
        parts = []
        for start in range(0, len(x), BATCH):
            rows = x[start : start + BATCH]
            rest = np.repeat(rows[-1:], BATCH - len(rows), 0)
            found = of_rows(np.concatenate([rows, rest]))
            parts.append([np.asarray(each)[: len(rows)] for each in found])
        values, numbers = (np.concatenate(each) for each in zip(*parts, strict=True))
        return np.where(np.isnan(values), -np.inf, values), numbers

    return evaluated


RUNS = {"infer": by_infer, "nuts": by_nuts, "pocomc": by_pocomc}


def run_apart(name: str, by: str) -> Row:
    """Return what a run says in a process of its own, on one core."""
    one = {
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--one", name, by],
        cwd=ROOT,
        env={**os.environ, **one},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    row: Row = json.loads(done.stdout.splitlines()[-1])
    oracle = json.loads((ROOT / "tests" / "oracles" / "posteriors.json").read_text())
    known = oracle[data_of(name)].values()
    gaps = [
        abs(m - k["mean"]) / k["sd"] for m, k in zip(row["means"], known, strict=True)
    ]
    return {**row, "off": max(gaps)}


def table_of(rows: dict[str, dict[str, Row]]) -> str:
    """Return the rows as a table in Markdown."""
    heading = [
        "program", "`infer`: s", "ESS", "ms by ESS", "NUTS: s (compile)", "ESS",
        "ms by ESS", "pocoMC: s", "ESS", "ms by ESS", "`infer` by NUTS",
        "log evidence, `infer`", "pocoMC", "off: `infer`, NUTS, pocoMC",
    ]  # fmt: skip
    lines = [heading, ["---"] * len(heading)]
    for name, runs in sorted(rows.items()):
        own, nuts, poco = (runs.get(key) for key in RUNS)
        ratio = "-"
        if own and nuts:
            ratio = f"{_cost(own) / _cost(nuts):.2f}"
        lines.append(
            [
                name.replace("_", " "),
                *_cells(own),
                *_cells(nuts),
                *_cells(poco),
                ratio,
                *map(_evidence, (own, poco)),
                ", ".join(
                    f"{each['off']:.2f}" if each else "-" for each in (own, nuts, poco)
                ),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cost(run: Row) -> float:
    return float(run["seconds"] / run["ess"])


def _cells(run: Row | None) -> tuple[str, ...]:
    if run is None:
        return "-", "-", "-"
    apart = f" ({run['compile_seconds']:.1f})" if "compile_seconds" in run else ""
    cost = f"{1e3 * _cost(run):.2g}"
    return f"{run['seconds']:.1f}{apart}", f"{run['ess']:,.0f}", cost


def _evidence(run: Row | None) -> str:
    if run is None:
        return "-"
    return f"{run['log_evidence']:.2f} ± {run['log_evidence_error']:.2g}"


def main() -> None:
    """Run what is asked for, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--by", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, by = options.one
        print(json.dumps(RUNS[by](name)))
        return
    if not all(map(find_spec, ("numpyro", "pocomc"))):
        sys.exit(
            "NumPyro or pocoMC is missing; expected the extra: pip install '.[rivals]'"
        )
    rows: dict[str, dict[str, Row]] = {}
    if options.output and options.output.exists():
        rows = json.loads(options.output.read_text())
    for name in options.names or NAMES:
        for by in options.by:
            rows.setdefault(name, {})[by] = run_apart(name, by)
            if options.output:
                options.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(table_of(rows))


if __name__ == "__main__":
    main()
