"""A small trained run, and its exact answer, for the tests of the commands."""

import json
import math

import numpy as np
from click.testing import CliRunner
from scipy import stats

from flows.cli import main

from ..conftest import pair_document

CONFIG = """
budget_seconds = 0.0
max_iterations = 60
report_every = 20
num_certifications = 2
certify_draws = 200
normalisation_draws = 2000
converged_nats = 0.0
[flow]
layers = 2
hidden = 4
"""


def good(*arguments, **options):
    return _ended(0, arguments, **options).stdout


def doubted(*arguments, **options):
    return _ended(3, arguments, **options).stdout


def bad(*arguments, **options):
    return _ended(2, arguments, **options).output


def _ended(code, arguments, **options):
    result = CliRunner().invoke(main, [str(each) for each in arguments], **options)
    assert result.exit_code == code, result.output
    return result


def make_run(folder):
    """Write graph and artifact of a -> b with an observation of each."""
    (folder / "graph.json").write_text(json.dumps(pair_document()))
    (folder / "train.toml").write_text(CONFIG)
    good(
        "train", folder / "graph.json", "-o", folder / "artifact",
        "--config", folder / "train.toml",
    )  # fmt: skip
    return folder


def exact(x=0.5, y=1.5):
    """Return posterior means of a and b and the log evidence, from one covariance."""
    # a ~ N(1, 4); b = 2 a + N(0, 1); x = a + N(0, 1); y = b + N(0, 1/4).
    mean = np.array([1.0, 2.0, 1.0, 2.0])
    prior = np.array([[4.0, 8.0], [8.0, 17.0]])
    data = prior + np.diag([1.0, 0.25])
    gap = np.array([x, y]) - mean[2:]
    posterior = mean[:2] + prior @ np.linalg.solve(data, gap)
    evidence = stats.multivariate_normal(mean[2:], data).logpdf([x, y])
    assert math.isfinite(evidence)
    return posterior, float(evidence)


def check_answer(summary, x=0.5, y=1.5):
    """Check means and evidence within 4.5 standard errors."""
    means, evidence = exact(x, y)
    for latent, mean in zip(summary["latents"], means, strict=True):
        error = max(latent["mean_standard_error"], 1e-9)
        assert abs(latent["mean"] - mean) < 4.5 * error
    error = summary["log_evidence_standard_error"]
    assert abs(summary["log_evidence"] - evidence) < 4.5 * error + 1e-3
