"""This file trains flows for the Clojure reader, most of fewer latents than models."""

import json
import shutil

import numpy as np
from scipy.stats import gamma, norm

from flows.front.train import train
from flows.model.model import Model

from .commands.pair import CONFIG
from .commands.pair import good as done
from .integrated.programs import CIRCUIT, GROUPS
from .quick import AUTOREGRESSIVE
from .saved_artifact import rewrite

__all__ = ["write_groups", "write_trained"]


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
