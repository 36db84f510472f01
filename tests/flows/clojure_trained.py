"""This file trains flows for the Clojure reader, most of fewer latents than models."""

import json
import shutil

import numpy as np
import torch
from scipy.stats import gamma, norm

from flows.front.train import train
from flows.model.model import Model

from .commands.pair import CONFIG
from .commands.pair import good as done
from .integrated.programs import CIRCUIT, GROUPS
from .quick import AUTOREGRESSIVE
from .saved_artifact import rewrite

__all__ = ["write_groups", "write_linked", "write_trained"]

LINKED = """
(let [s (sample (gamma 2 2))
      t (sample (gamma 3 1))
      m (sample (normal 0 2)) a (sample (normal m s)) b (sample (normal a t))
      c (sample (normal 0 s)) d (sample (normal c t))
      r (sample (gamma 2 t))
      u (sample (normal (tanh b) s))
      x (observe (normal (+ a (* 2 b)) 0.5) 0.4)
      y (observe (normal (- c d) (* t 1e-3)) 3.1)
      z (observe (poisson r) 4)]
  [m u])
"""
"""Three and two latents that are normal together, one apart, one unseen."""


def write_trained(folder):
    """Write what `train` makes of the circuit untold, and by the refusal's remedy."""
    folder.mkdir()
    (folder / "circuit.daphne").write_text(CIRCUIT)
    (folder / "train.toml").write_text(CONFIG.replace("= 60", "= 4"))
    for name, options in (("auto", ()), ("none", ("--integrate", "none"))):
        done(
            "train", folder / "circuit.daphne", "-o", folder / name,
            "--config", folder / "train.toml", "--kind", "auto", *options,
        )  # fmt: skip


def write_groups(folder, bad):
    """Write a flow of two of six latents, with answers by quadrature.

    Args:
        folder: for both.
        bad: for a copy of the artifact, whose other latents are in another order.
    """
    model = Model.from_program(GROUPS)
    posterior = train(model, config=AUTOREGRESSIVE)
    folder.mkdir()
    posterior.save(folder / "artifact")
    mu, tau, b = (
        np.linspace(*ends)
        for ends in ((-12, 12, 961), (1e-4, 12, 1200), (1e-4, 4, 2000))
    )
    spread = np.sqrt(tau**2 + 0.25)
    a_mean = 0.4 + 0.25 / spread**2 * (mu[:, None] - 0.4)
    of_a = gamma.pdf(tau, 2, scale=0.5) * norm.pdf(0.4, mu[:, None], spread)
    of_b = gamma.pdf(b, 2, scale=np.exp(-mu[:, None])) * norm.pdf(1.1, b, 0.3)
    first, second = (
        norm.pdf(mu, 0, 2) * np.trapezoid(of_a * x, tau) * np.trapezoid(of_b * y, b)
        for x, y in ((1, 1), (a_mean, b))
    )
    evidence = np.trapezoid(first, mu)
    expected = {
        "names": {node.label: node.name for node in model.layout.latents}
        | {node.label: node.name for node in model.layout.observed},
        "log_evidence": float(np.log(evidence)),
        "mean_of_d": float(np.trapezoid(second, mu) / evidence),
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    shutil.copytree(folder / "artifact", bad)
    rewrite(bad, lambda manifest: manifest["integrated"].reverse())


def write_linked(folder):
    """Write a flow beside which latents are drawn together, with its draws by torch."""
    model = Model.from_program(LINKED)
    posterior = train(model, config=AUTOREGRESSIVE)
    folder.mkdir()
    posterior.save(folder / "artifact")
    flow = posterior.artifact.flow_for(model.graph, model.layout)
    generator = torch.Generator().manual_seed(2)
    base = flow.sample_base(6, generator=generator)
    observed = model.sample(6, generator=generator).observed
    with torch.no_grad():
        drawn = flow.from_base(base, observed)
    latents, _ = model.constrain(drawn.free)
    jacobians = model.constrain_terms(drawn.free)
    numbers = {v.name: place for place, v in enumerate(model.layout.latents)}
    rows = [
        {
            "base": base[row].tolist(),
            "observed": {
                v.name: float(observed[row, v.start]) for v in model.layout.observed
            },
            "drawn": {
                v.name: float(latents[row, v.start]) for v in model.layout.latents
            },
            "log_proposal": {
                name: float(drawn.log_prob_per_node[row, place])
                - float(jacobians[row, numbers[name]])
                for place, name in enumerate(flow.structure.names)
            },
        }
        for row in range(len(base))
    ]
    expected = {
        "names": {
            v.label: v.name for v in (*model.layout.latents, *model.layout.observed)
        },
        "rows": rows,
    }
    (folder / "expected.json").write_text(json.dumps(expected))
