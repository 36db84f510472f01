"""Times log p with its gradient against NumPyro's enumeration, side by side.

    make bench-rivals        or, where the extra `rivals` is installed,
    python -m tests.bench.rival_enumeration [--repeats N] [--output FILE]

Discrete latents are summed out of a hidden Markov model (its means and rows unknown)
and of a mixture; both ways compute log p of the same rows in double precision on one
core, and must agree to 1e-8.
NumPyro's function is vectorised over rows by `vmap` and compiled before it is timed;
ours is `CollapsedModel.log_joint`. Seconds are of processor time, the least of all
repeats, with what comes before the first value (compiling; from the program's text) in
brackets. NumPyro's chain is its `scan`, which folds the steps in parallel as ours does.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import torch
from numpyro.contrib.control_flow import scan
from numpyro.contrib.funsor import config_enumerate, enum
from numpyro.contrib.funsor.infer_util import log_density

import flows
from flows.marginal.target import collapse

from .bench_marginal import ADVANCE, chain_data, mixture, mixture_data, options_of

Work = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Returns log p of rows of latents and its gradient."""


def chain(steps: int) -> str:
    """Return the program of a hidden Markov model with unknown means and rows."""
    data = " ".join(map(str, chain_data(steps)))
    return f"""{ADVANCE}
(let [means [(sample (normal -2 1)) (sample (normal 0 1)) (sample (normal 2 1))]
      rows [(sample (dirichlet [4 1 1])) (sample (dirichlet [1 4 1]))
            (sample (dirichlet [1 1 4]))]]
  (loop {steps} 0 advance rows means [{data}]))"""


def enumerated(
    model: Callable[[], None], values: Mapping[str, jax.Array], *, num_plates: int
) -> jax.Array:
    """Return log p of values, the other sites of a model summed out."""
    seeded = numpyro.handlers.seed(config_enumerate(model), 0)  # asks for one
    summed = enum(seeded, first_available_dim=-1 - num_plates)
    return log_density(summed, (), {}, values)[0]


def enumerated_chain(steps: int) -> Callable[[jax.Array], jax.Array]:
    """Return the same as NumPyro has it, as a function of one row."""
    data = jnp.array(chain_data(steps))

    def model() -> None:
        means = jnp.stack(
            [numpyro.sample(f"m{k}", dist.Normal(2.0 * k - 2.0, 1.0)) for k in range(3)]
        )
        rows = jnp.stack(
            [
                numpyro.sample(f"r{k}", dist.Dirichlet(jnp.ones(3).at[k].set(4.0)))
                for k in range(3)
            ]
        )

        def step(state: jax.Array | None, value: jax.Array) -> tuple[jax.Array, None]:
            shares = rows[0] if state is None else rows[state]
            state = numpyro.sample("z", dist.Categorical(shares))
            numpyro.sample("y", dist.Normal(means[state], 1.0), obs=value)
            return state, None

        scan(step, None, data)

    def log_p(row: jax.Array) -> jax.Array:
        values = {f"m{k}": row[k] for k in range(3)}
        values |= {f"r{k}": row[3 + 3 * k : 6 + 3 * k] for k in range(3)}
        return enumerated(model, values, num_plates=0)

    return log_p


def enumerated_mixture(points: int, clusters: int) -> Callable[[jax.Array], jax.Array]:
    """Return the mixture of `bench_marginal` as NumPyro has it."""
    data = jnp.array(mixture_data(points, clusters))

    def model() -> None:
        shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(clusters)))
        means = jnp.stack(
            [numpyro.sample(f"m{k}", dist.Normal(0.0, 10.0)) for k in range(clusters)]
        )
        with numpyro.plate("points", points):
            z = numpyro.sample("z", dist.Categorical(shares))
            numpyro.sample("y", dist.Normal(means[z], 1.0), obs=data)

    def log_p(row: jax.Array) -> jax.Array:
        values = {"shares": row[:clusters]}
        values |= {f"m{k}": row[clusters + k] for k in range(clusters)}
        return enumerated(model, values, num_plates=1)

    return log_p


def ours(text: str) -> tuple[Work, torch.Tensor]:
    """Return log p with its gradient, and 1,000 draws of the prior."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / "program.daphne"
        place.write_text(text)
        model = collapse(flows.Model.compile(place))
    observed = model.observation()

    def work(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        latents = torch.from_numpy(rows).requires_grad_()
        value = model.log_joint(latents, observed)
        (gradient,) = torch.autograd.grad(value.sum(), latents)
        return value.detach().numpy(), gradient.numpy()

    generator = torch.Generator().manual_seed(0)
    return work, model.sample_latents(1000, generator=generator)


def theirs(log_p: Callable[[jax.Array], jax.Array]) -> Work:
    """Return the same of NumPyro, compiled at its first call of each shape."""
    compiled = jax.jit(jax.vmap(jax.value_and_grad(log_p)))

    def work(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, gradient = compiled(jnp.asarray(rows))
        return np.asarray(value), np.asarray(gradient)

    return work


def measure(
    text: str, log_p: Callable[[jax.Array], jax.Array], num_rows: int, repeats: int
) -> dict[str, float]:
    """Return seconds of both ways, and how far apart their values are."""
    started = time.process_time()
    own, draws = ours(text)
    rows = draws[:num_rows].numpy()
    value, _ = own(rows)
    own_before = time.process_time() - started
    started = time.process_time()
    other = theirs(log_p)
    other_value, _ = other(rows)
    other_before = time.process_time() - started
    found = {"ours": [], "numpyro": []}
    for _ in range(repeats):
        for name, work in (("ours", own), ("numpyro", other)):
            started = time.process_time()
            work(rows)
            found[name].append(time.process_time() - started)
    gap = np.abs(value - other_value).max()
    if not gap < 1e-8 * np.abs(value).max():
        raise SystemExit(f"the two ways differ by {gap:.2e} nats")
    return {
        "ours_s": min(found["ours"]),
        "ours_before_s": own_before,
        "numpyro_s": min(found["numpyro"]),
        "numpyro_before_s": other_before,
        "gap_nats": float(gap),
    }


def main() -> None:
    """Print the table and write it as JSON if asked to."""
    options = options_of(__doc__, 5)
    jax.config.update("jax_enable_x64", True)
    found = {}
    for name, text, log_p in (
        ("chain of 100 steps", chain(100), enumerated_chain(100)),
        ("chain of 1,000 steps", chain(1000), enumerated_chain(1000)),
        ("mixture 1,000 x 5", mixture(1000, 5), enumerated_mixture(1000, 5)),
    ):
        for num_rows in (1, 100):
            row = measure(text, log_p, num_rows, options.repeats)
            found[f"{name}, {num_rows} rows"] = row
            print(
                f"{name:22} {num_rows:4} rows"
                f"  ours {row['ours_s'] * 1e3:8.2f} ms ({row['ours_before_s']:5.1f} s)"
                f"  NumPyro {row['numpyro_s'] * 1e3:8.2f} ms"
                f" ({row['numpyro_before_s']:5.1f} s)"
                f"  ratio {row['numpyro_s'] / row['ours_s']:5.2f}"
                f"  apart {row['gap_nats']:.0e}",
                flush=True,
            )
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
