"""This file makes the oracle of `clj-programs/posteriors`: long runs of NUTS.

    pip install numpyro
    python tests/oracles/nuts.py [NAME ...]

samples each model, written here a second time in NumPyro, by four chains, and keeps in
`posteriors.json` what they say of each number of the program's return value: mean and
standard deviation, the Monte Carlo error of both, effective sample size and R-hat.
Discrete latents are summed out by hand. Nothing of this project is imported but where
the data stand.
"""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro import sample
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

PROGRAMS = Path(__file__).parents[2] / "clj-programs" / "posteriors"
RESULTS = Path(__file__).with_name("posteriors.json")
CHAINS, WARM_UP, DRAWS = 4, 1500, 5000

Table = dict[str, np.ndarray]


def linear_regression(data: Table) -> None:
    b0, b1 = sample("b0", dist.Normal(0, 100)), sample("b1", dist.Normal(0, 10))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    sample("y", dist.Normal(b0 + b1 * data["x"], sigma), obs=data["y"])


def logistic_regression(data: Table) -> None:
    x = np.stack([data[f"x{i}"] for i in range(1, 6)], 1)
    intercept = sample("intercept", dist.Normal(0, 5))
    weights = [sample(f"w{i}", dist.Normal(0, 5)) for i in range(1, 6)]
    score = intercept + x @ jnp.stack(weights)
    sample("y", dist.Bernoulli(logits=score), obs=data["y"])


def autoregression(data: Table) -> None:
    y = data["y"]
    alpha = sample("alpha", dist.Normal(0, 10))
    slopes = [sample(f"b{i}", dist.Normal(0, 10)) for i in range(1, 6)]
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    mean = alpha + sum(b * y[5 - i : len(y) - i] for i, b in enumerate(slopes, 1))
    sample("y", dist.Normal(mean, sigma), obs=y[5:])


def garch(data: Table) -> None:
    y = jnp.asarray(data["y"])
    mu = sample("mu", dist.Normal(0, 10))
    alpha0 = sample("alpha0", dist.HalfCauchy(2))
    alpha1 = sample("alpha1", dist.Uniform(0, 1))
    beta1 = sample("beta1", dist.Uniform(0, 1 - alpha1))

    def step(variance: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
        after = alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance
        return after, after

    _, variances = jax.lax.scan(step, jnp.asarray(0.25), y[:-1])
    scale = jnp.sqrt(jnp.concatenate([jnp.array([0.25]), variances]))
    sample("y", dist.Normal(mu, scale), obs=y)


def hierarchical(data: Table) -> None:
    mu, tau = sample("mu", dist.Normal(0, 10)), sample("tau", dist.HalfCauchy(5))
    sigma = sample("sigma", dist.HalfCauchy(5))
    z = sample("z", dist.Normal(0, 1).expand([12]))
    sample("y", dist.Normal((mu + tau * z)[data["group"]], sigma), obs=data["y"])


def student_regression(data: Table) -> None:
    intercept = sample("intercept", dist.Normal(0, 10))
    slope = sample("slope", dist.Normal(0, 10))
    sigma = sample("sigma", dist.HalfCauchy(2.5))
    nu = sample("nu", dist.Gamma(2, 0.1))
    mean = intercept + slope * data["x"]
    sample("y", dist.StudentT(nu, mean, sigma), obs=data["y"])


def gaussian_process(data: Table) -> None:
    rho, alpha = sample("rho", dist.Gamma(25, 4)), sample("alpha", dist.HalfNormal(2))
    sigma = sample("sigma", dist.HalfNormal(1))
    gap = data["x"][:, None] - data["x"]
    smooth = alpha**2 * jnp.exp(-0.5 * gap**2 / rho**2)
    covariance = smooth + sigma**2 * jnp.eye(11)
    sample("y", dist.MultivariateNormal(jnp.zeros(11), covariance), obs=data["y"])


def mixture(data: Table) -> None:
    share = sample("share", dist.Beta(5, 5))
    low = sample("low", dist.Normal(0, 5))
    gap = sample("gap", dist.HalfNormal(5))
    scale0 = sample("scale0", dist.HalfNormal(2))
    scale1 = sample("scale1", dist.HalfNormal(2))
    high = numpyro.deterministic("high", low + gap)
    terms = jnp.stack(
        [
            jnp.log1p(-share) + dist.Normal(low, scale0).log_prob(data["y"]),
            jnp.log(share) + dist.Normal(high, scale1).log_prob(data["y"]),
        ]
    )
    numpyro.factor("y", logsumexp(terms, 0).sum())


def hidden_markov_model(data: Table) -> None:
    row0 = sample("row0", dist.Dirichlet(jnp.array([2.0, 1.0])))
    row1 = sample("row1", dist.Dirichlet(jnp.array([1.0, 2.0])))
    low, gap = sample("low", dist.Normal(0, 5)), sample("gap", dist.HalfNormal(5))
    numpyro.deterministic("stays0", row0[0])
    numpyro.deterministic("stays1", row1[1])
    means = jnp.stack([low, low + gap])
    rows = jnp.log(jnp.stack([row0, row1]))
    seen = dist.Normal(means, 1).log_prob(jnp.asarray(data["y"])[:, None])

    def step(state: jax.Array, term: jax.Array) -> tuple[jax.Array, None]:
        return logsumexp(state[:, None] + rows, 0) + term, None

    last, _ = jax.lax.scan(step, jnp.log(0.5) + seen[0], seen[1:])
    numpyro.factor("y", logsumexp(last))


MODELS: dict[str, tuple[Callable[[Table], None], tuple[str, ...]]] = {
    "linear_regression": (linear_regression, ("b0", "b1", "sigma")),
    "logistic_regression": (
        logistic_regression,
        ("intercept", "w1", "w2", "w3", "w4", "w5"),
    ),
    "autoregression": (
        autoregression,
        ("alpha", "b1", "b2", "b3", "b4", "b5", "sigma"),
    ),
    "garch": (garch, ("mu", "alpha0", "alpha1", "beta1")),
    "hierarchical": (hierarchical, ("mu", "tau", "sigma")),
    "student_regression": (student_regression, ("intercept", "slope", "sigma", "nu")),
    "gaussian_process": (gaussian_process, ("rho", "alpha", "sigma")),
    "mixture": (mixture, ("share", "low", "high", "scale0", "scale1")),
    "hidden_markov_model": (hidden_markov_model, ("stays0", "stays1", "low", "gap")),
}
"""Each model, and its numbers in the order of the program's return value."""


def table(name: str) -> Table:
    """Return the columns of a program's data."""
    with (PROGRAMS / f"{name}.csv").open() as file:
        header, *rows = list(csv.reader(file))
    columns = np.array(rows, dtype=float).T
    is_whole = {"group"}
    return {
        key: column.astype(int) if key in is_whole else column
        for key, column in zip(header, columns, strict=True)
    }


def figures(draws: np.ndarray) -> dict[str, float]:
    """Return what chains say of one number; errors are one standard error."""
    mean, sd = draws.mean(), draws.std()
    ess = float(effective_sample_size(draws))
    ess_square = float(effective_sample_size((draws - mean) ** 2))
    spread = ((draws - mean) ** 2).std() / (2 * sd)
    return {
        "mean": float(mean),
        "mean_error": float(sd / ess**0.5),
        "sd": float(sd),
        "sd_error": float(spread / ess_square**0.5),
        "ess": round(ess),
        "r_hat": float(split_gelman_rubin(draws)),
    }


def main() -> None:
    """Run NUTS on the models that are named, on all if none is."""
    jax.config.update("jax_enable_x64", True)
    for name in sys.argv[1:] or MODELS:
        model, numbers = MODELS[name]
        run = MCMC(
            NUTS(model, target_accept_prob=0.95),
            num_warmup=WARM_UP,
            num_samples=DRAWS,
            num_chains=CHAINS,
            chain_method="sequential",
            progress_bar=False,
        )
        run.run(jax.random.PRNGKey(1), table(name))
        draws = run.get_samples(group_by_chain=True)
        found = {key: figures(np.asarray(draws[key])) for key in numbers}
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[name] = found
        text = json.dumps({key: known[key] for key in sorted(known)}, indent=1)
        RESULTS.write_text(text + "\n")
        sys.stdout.write(f"{name} {found}\n")


if __name__ == "__main__":
    main()
