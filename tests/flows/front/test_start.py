"""Tests of what tempering begins from."""

import math

import numpy as np
import pytest
from scipy import stats

from flows.front.clock import Clock
from flows.front.question import Question
from flows.front.start import start
from flows.model.model import Model

NUM = 16
_DRAWN = np.random.default_rng(5)
SIZES = _DRAWN.integers(100, 900, NUM)
LOGITS = _DRAWN.normal(-2.2, 0.4, NUM)
CONTROLS = _DRAWN.binomial(SIZES, 1 / (1 + np.exp(-LOGITS)))
TREATED = _DRAWN.binomial(SIZES, 1 / (1 + np.exp(-LOGITS + 0.25)))


def vector(values):
    return f"[{' '.join(map(str, values))}]"


TRIALS = f"""(defn sig [a] (/ 1 (+ 1 (exp (- 0 a)))))
  (let [d (sample (normal 0 10)) s (sample (half-normal 1))
        mu (foreach {NUM} [] (sample (normal 0 10)))
        effect (foreach {NUM} [] (sample (student-t-loc-scale 4 d s)))]
    (foreach {NUM} [n {vector(SIZES)} c {vector(CONTROLS)} t {vector(TREATED)}
                    m mu e effect]
      (do (observe (binomial n (sig m)) c)
          (observe (binomial n (sig (+ m e))) t)))
    [d s])"""


def log_evidence():
    """Given d and s the trials are independent: an integral over two numbers each."""
    mu, effects = np.linspace(-6, 1, 700), np.linspace(-12, 12, 2401)
    of_trial = []
    for n, c, t in zip(SIZES, CONTROLS, TREATED, strict=True):
        prior = stats.norm.logpdf(mu, 0, 10)
        prior += stats.binom.logpmf(c, n, 1 / (1 + np.exp(-mu)))
        chance = 1 / (1 + np.exp(-mu[:, None] - effects))
        both = prior[:, None] + stats.binom.logpmf(t, n, chance)
        of_trial.append(np.logaddexp.reduce(both, axis=0) + math.log(mu[1] - mu[0]))
    places = stats.t.ppf((np.arange(200) + 0.5) / 200, 4)
    ds, ss = np.linspace(-1.5, 1, 81), np.linspace(0.0, 1.5, 82)[1:] - 0.0092
    d, s = np.meshgrid(ds, ss, indexing="ij")
    found = stats.norm.logpdf(d, 0, 10) + stats.halfnorm.logpdf(s)
    for each in of_trial:
        there = np.interp(d[..., None] + s[..., None] * places, effects, each)
        found += np.logaddexp.reduce(there, axis=-1) - math.log(len(places))
    area = (ds[1] - ds[0]) * (ss[1] - ss[0])
    return np.logaddexp.reduce(found, axis=None) + math.log(area)


def test_trials_that_hardly_differ_are_begun_from_where_their_mass_is():
    """Seen: the highest point, no scale and one effect, held 7 nats too little."""
    model = Model.from_program(TRIALS)
    question = Question(
        model,
        model.forgiving(),
        model.observation({}),
        10_000,
        0,
        Clock(math.inf),
        1_000.0,
    )
    found = start(question)
    totals = found.particles.totals
    assert found.coordinates == "standardised"
    assert found.has_shape
    assert totals.log_evidence == pytest.approx(log_evidence(), abs=0.5)
