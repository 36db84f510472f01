"""Tests of flows.front.lost_digits: scales that equal data pull to 0."""

import numpy as np
import pytest
import scipy.stats

import flows
from flows.model.model import Model

SAME = """
(let [mu (sample (normal 0 10)) s (sample (half-normal 1))]
  (foreach 5 [y [{}]] (observe (normal mu s) y))
  s)
"""


def test_equal_data_have_no_posterior():
    """The density grows as s^-4: a scale of 2e-46 was given, and trusted."""
    found = flows.infer(Model.from_program(SAME.format("1.5 1.5 1.5 1.5 1.5")))
    assert not found.is_trusted
    (caution,) = [c for c in found.cautions if "there is no posterior" in c.meaning]
    assert caution.what.startswith("most of the posterior of s is")


def test_nearly_equal_data_have_one():
    data = 1.5 + 1e-6 * np.array([0.3, -1.1, 0.8, 0.2, -0.4])
    found = flows.infer(
        Model.from_program(SAME.format(" ".join(map(str, data.tolist()))))
    )
    assert found.is_trusted
    at = np.linspace(-17.0, -8.0, 4001)
    # Where the prior of the mean is flat and that of the scale too.
    squares = ((data - data.mean()) ** 2).sum()
    log = -4 * at - 0.5 * squares / np.exp(2 * at) + at
    weights = np.exp(log - log.max())
    exact = float(weights @ np.exp(at) / weights.sum())
    own = found.latents["s"]
    assert own.mean == pytest.approx(exact, rel=0.02)
    log = np.log(np.sqrt(2 / np.pi)) - 2 * np.log(2 * np.pi) + log
    total = np.logaddexp.reduce(log) + np.log((at[1] - at[0]) / np.sqrt(5))
    total += scipy.stats.norm(0, 10).logpdf(1.5)
    assert found.log_evidence == pytest.approx(
        total, abs=4 * found.log_evidence_standard_error + 1e-3
    )
