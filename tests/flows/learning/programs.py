"""Models with parameters that rows share, data of them, and exact likelihoods."""

import numpy as np
import torch
from scipy import optimize, stats

from flows.learning.likelihood import RowDraws
from flows.model.model import Model

__all__ = [
    "COMPONENTS",
    "HIERARCHICAL",
    "MARKOV",
    "PATHS",
    "WALK",
    "Conjugate",
    "hierarchical_log_posterior",
    "hierarchical_top",
    "model_of",
    "rows_of",
]

HIERARCHICAL = """
(let [mu (sample (normal 0 3))
      tau (sample (half-normal 2))
      sigma (sample (half-normal 2))
      z (sample (normal mu tau))
      y0 (observe (normal z sigma) 0.1)
      y1 (observe (normal z sigma) 0.2)
      y2 (observe (normal z sigma) 0.3)
      y3 (observe (normal z sigma) 0.4)]
  [z mu])
"""

COMPONENTS = {"mu": 1.0, "tau": 0.7, "sigma": 1.3}
"""Values of its parameters to draw data at."""

MARKOV = """
(defn advance [t states rows means ys]
  (let [z (sample (discrete (get rows (last states))))
        y (observe (normal (get means z) 1.0) (get ys t))]
    (conj states z)))

(let [stay (sample (dirichlet [2.0 2.0]))
      leave (sample (dirichlet [2.0 2.0]))
      m0 (sample (normal -1 2))
      m1 (sample (normal 1 2))
      ys [1.7 2.2 0.1 1.0 2.0 0.0 0.3 0.4]
      z (sample (discrete [1.0 1.0]))]
  (loop (count ys) [z] advance [stay leave] [m0 m1] ys))
"""

PATHS = {"stay": [0.8, 0.2], "leave": [0.3, 0.7], "m0": -1.0, "m1": 1.5}
"""Values of its parameters to draw data at."""

WALK = """
(defn step [t states ys q r]
  (let [x (sample (normal (last states) q))
        y (observe (normal x r) (get ys (+ t 1)))]
    (conj states x)))

(let [q (sample (half-normal 1))
      r (sample (half-normal 1))
      ys [0.3 0.1 0.4 0.2 0.5 0.9]
      x (sample (normal 0 1))
      y (observe (normal x r) (first ys))]
  (loop 5 [x] step ys q r))
"""


def model_of(text):
    return Model.from_program(text)


def rows_of(model, values, num, seed):
    """Return draws of data at given parameters."""
    given = {
        name: torch.as_tensor(value, dtype=torch.float64).reshape(1, -1).expand(num, -1)
        for name, value in values.items()
    }
    generator = torch.Generator().manual_seed(seed)
    return model.sample_given(given, generator=generator).observed


def hierarchical_log_posterior(values, data):
    """Return the log posterior of mu, tau, sigma up to a constant."""
    mu, tau, sigma = values
    covariance = tau**2 + sigma**2 * np.eye(4)
    rows = stats.multivariate_normal(np.full(4, mu), covariance).logpdf(data)
    return rows.sum() - 0.5 * ((mu / 3) ** 2 + (tau / 2) ** 2 + (sigma / 2) ** 2)


def hierarchical_top(data):
    """Return mu, tau, sigma of largest posterior density, by a search of scipy."""
    found = optimize.minimize(
        lambda u: -hierarchical_log_posterior([u[0], *np.exp(u[1:])], data),
        np.zeros(3),
        tol=1e-10,
    ).x
    return np.array([found[0], *np.exp(found[1:])])


class Conjugate:
    """Draws of the hierarchical model's z from its own posterior, made wider."""

    is_exact = False

    def __init__(self, width=1.3):
        self.width = width

    def draw(self, values, data, num, *, generator):
        mu, tau, sigma = values
        precision = 1 / tau**2 + 4 / sigma**2
        centre = (mu / tau**2 + data.sum(1) / sigma**2) / precision
        scale = self.width * precision.rsqrt()
        noise = torch.randn(num, len(data), dtype=torch.float64, generator=generator)
        density = torch.distributions.Normal(centre, scale)
        latents = centre + scale * noise
        return RowDraws(latents.unsqueeze(-1), density.log_prob(latents))
