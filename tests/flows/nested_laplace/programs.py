"""Programs with nearly Gaussian latents, and their densities by scipy.

Given the scales their groups are independent: integrals over one latent each.
"""

import numpy as np
import scipy.stats
from scipy.special import logsumexp

COUNTS = """
(let [s (sample (gamma 2 2))
      b (foreach 9 [] (sample (normal 0.3 s)))]
  (foreach 9 [bi b yi [0 1 4 0 2 9 1 0 3]] (observe (poisson (exp bi)) yi))
  [s (get b 5)])
"""
COUNTS_DATA = np.array([0, 1, 4, 0, 2, 9, 1, 0, 3])

OUTLIERS = """
(let [s (sample (half-normal 1))
      b (foreach 9 [] (sample (normal 0 2)))]
  (foreach 9 [bi b yi [0.1 -1.0 3.0 0.3 -6.5 0.0 -2.5 0.2 7.5]]
    (observe (student-t-loc-scale 4 bi s) yi))
  [s (get b 4)])
"""
"""Scales near 0, where each latent is as heavy in its tails as the noise."""
OUTLIERS_DATA = np.array([0.1, -1.0, 3.0, 0.3, -6.5, 0.0, -2.5, 0.2, 7.5])

STEPS = """
(let [s (sample (gamma 2 2))
      b (foreach 9 [] (sample (normal 0.3 s)))]
  (foreach 9 [bi b yi [true false true true false true true true true]]
    (observe (flip (if (> bi 0.5) 0.9 0.2)) yi))
  [s (get b 5)])
"""
"""Factors without slopes."""
STEPS_DATA = np.array([1, 0, 1, 1, 0, 1, 1, 1, 1])

POSITIVE = """
(let [s (sample (gamma 2 2))
      b (foreach 9 [] (sample (normal 3 s)))]
  (foreach 9 [bi b yi [1.0 2.5 7 3 0.4 2 3 4 12]] (observe (gamma bi 1) yi))
  [s (get b 5)])
"""
"""Factors without meaning where a latent is below 0, and where it is 0."""
POSITIVE_DATA = np.array([1.0, 2.5, 7, 3, 0.4, 2, 3, 4, 12])

RETURNS = """
(defn step [t h s y]
  (let [h (sample (normal (* 0.9 h) s))]
    (observe (normal 0 (exp (/ h 2))) (get y t))
    h))
(let [s (sample (gamma 2 4)) h (sample (normal 0 1))]
  (loop 12 h step s [0.1 -0.4 0.9 -1.6 0.7 -0.2 0.1 -0.3 2.2 -2.0 0.0 0.4]))
"""
"""Log scales of returns, a chain: none of its factors is that of one latent alone."""
RETURNS_DATA = np.array([0.1, -0.4, 0.9, -1.6, 0.7, -0.2, 0.1, -0.3, 2.2, -2, 0, 0.4])


def counts(s):
    """Return log p(data | s) and the mean of the sixth group, by sums on a grid."""
    at = 0.3 + s * np.linspace(-9.0, 9.0, 4_001)
    log = scipy.stats.norm(0.3, s).logpdf(at) + np.log(at[1] - at[0])
    each = log + scipy.stats.poisson.logpmf(COUNTS_DATA[:, None], np.exp(at))
    total = logsumexp(each, 1)
    return total.sum(), np.exp(each[5] - total[5]) @ at


def steps(s):
    """Return log p(data | s) and the mean of the sixth group, in closed form."""
    law = scipy.stats.norm(0.3, s)
    above = law.sf(0.5)
    chance = 0.9 * above + 0.2 * (1.0 - above)
    total = np.log(np.where(STEPS_DATA == 1, chance, 1.0 - chance)).sum()
    moved = s * s * law.pdf(0.5)  # of E[b; b > 0.5] = 0.3 above + s^2 pdf(0.5)
    high, low = 0.3 * above + moved, 0.3 * (1.0 - above) - moved
    return total, (0.9 * high + 0.2 * low) / chance


def positive(s):
    """Return log p(data | s) and the mean of the sixth group, by sums on a grid."""
    at = 3.0 + s * np.linspace(-9.0, 9.0, 4_001)
    log = scipy.stats.norm(3, s).logpdf(at) + np.log(at[1] - at[0])
    log, at = log[at > 0.0], at[at > 0.0]
    each = log + scipy.stats.gamma.logpdf(POSITIVE_DATA[:, None], at)
    total = logsumexp(each, 1)
    return total.sum(), np.exp(each[5] - total[5]) @ at


def outliers(s):
    """Return log p(data | s) and the mean of the fifth group, by sums on a grid."""
    found = []
    for y in OUTLIERS_DATA:
        # Fine near the datum, where the noise may be narrow, coarse elsewhere.
        near = y + s * np.sinh(np.linspace(-12.0, 12.0, 4_001))
        at = np.unique(np.concatenate([near, np.linspace(-20.0, 20.0, 4_001)]))
        step = np.gradient(at)
        each = scipy.stats.norm(0, 2).logpdf(at) + np.log(step)
        each = each + scipy.stats.t(4, at, s).logpdf(y)
        total = logsumexp(each)
        found.append((total, np.exp(each - total) @ at))
    return sum(total for total, _ in found), found[4][1]


def returns(s):
    """Return log p(data | s) and the mean of the last step, by sums on a grid."""
    at = np.linspace(-9.0, 9.0, 1_201)
    step = at[1] - at[0]
    moved = scipy.stats.norm(0.9 * at[:, None], s).pdf(at) * step
    weights, log = scipy.stats.norm(0, 1).pdf(at) * step, 0.0
    for y in RETURNS_DATA:
        weights = (weights @ moved) * scipy.stats.norm(0, np.exp(at / 2)).pdf(y)
        log += np.log(weights.sum())
        weights /= weights.sum()
    return log, weights @ at


def by_quadrature(given, prior, least, most, num=400):
    """Return the log evidence, the scale's mean, and that of a latent."""
    at = least + (np.arange(num) + 0.5) * (most - least) / num
    found = np.array([given(s) for s in at])
    log = found[:, 0] + prior.logpdf(at) + np.log((most - least) / num)
    total = logsumexp(log)
    weights = np.exp(log - total)
    return total, weights @ at, weights @ found[:, 1]
