"""Decoders of binary pixels, and the likelihood of their weights by quadrature.

Nothing here knows the model: the likelihood is an integral over a grid of the latent,
and its slope automatic differentiation of that.
"""

import math

import torch
from scipy import optimize

__all__ = ["best_weights", "linear_decoder", "log_posterior"]

BIAS_SD = 3.0
_FAR, _POINTS = 8.0, 161


def linear_decoder(num_pixels):
    """Return a program of one latent whose logits are linear in it."""
    zeros = " ".join(["0"] * num_pixels)
    return f"""
(defn sigmoid [a] (/ 1.0 (+ 1.0 (exp (* -1.0 a)))))
(let [pixels [{zeros}]
      weight (foreach {num_pixels} [] (sample (normal 0 1)))
      bias (foreach {num_pixels} [] (sample (normal 0 {BIAS_SD})))
      z (sample (normal 0 1))]
  (foreach {num_pixels} [w weight b bias pixel pixels]
    (observe "pixel" (bernoulli (sigmoid (+ (* w z) b))) pixel))
  z)"""


def log_posterior(values, pixels):
    """Return log p(values) + Σ log p(pixels | values) in nats.

    Args:
        values: weights, then biases, [2 pixel].
        pixels: of 0 and 1, [image pixel].
    """
    num = pixels.shape[1]
    weight, bias = values[:num], values[num:]
    z = torch.linspace(-_FAR, _FAR, _POINTS, dtype=torch.float64)
    logits = z[:, None] * weight + bias
    log_p = pixels @ logits.T - torch.nn.functional.softplus(logits).sum(1)
    log_z = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) + math.log(float(z[1] - z[0]))
    prior = -0.5 * (weight**2).sum() - 0.5 * ((bias / BIAS_SD) ** 2).sum()
    constant = num * (math.log(2 * math.pi) + math.log(BIAS_SD))
    return (log_p + log_z).logsumexp(1).sum() + prior - constant


def best_weights(pixels, first):
    """Return weights and biases at the top that is reached from a place, and height."""

    def depth(numbers):
        values = torch.tensor(numbers, requires_grad=True)
        found = -log_posterior(values, pixels)
        found.backward()
        return found.item(), values.grad.numpy()

    found = optimize.minimize(
        depth, first.numpy(), jac=True, method="L-BFGS-B",
        options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-7},
    )  # fmt: skip
    return torch.from_numpy(found.x), -found.fun
