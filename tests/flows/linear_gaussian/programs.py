"""Programs with linear Gaussian latents, and their marginal densities by scipy."""

import numpy as np
import scipy.stats

LEVEL = """
(defn step [t x q r y]
  (let [x (sample (normal x q))] (observe (normal x r) (get y t)) x))
(let [q (sample (gamma 2 2)) r (sample (gamma 2 2)) x0 (sample (normal 1 2))]
  (loop 9 x0 step q r [0.5 1.1 0.3 -0.7 -0.2 -1.4 0.2 0.9 1.5])
  x0)
"""
LEVEL_DATA = np.array([0.5, 1.1, 0.3, -0.7, -0.2, -1.4, 0.2, 0.9, 1.5])

GROUPS = """
(let [mu (sample (normal 1 3)) tau (sample (gamma 2 1)) s (sample (gamma 2 2))
      y [0.5 1.1 2.3 -0.7 2.2 -1.4 0.2 0.9 3.5]
      group [0 0 1 2 3 4 5 6 6]
      b (foreach 7 [] (sample (normal {mean} {scale})))]
  (foreach 9 [g group yi y] (observe (normal {value} s) yi))
  [mu tau])
"""
CENTRED = GROUPS.format(mean="mu", scale="tau", value="(get b g)")
NON_CENTRED = GROUPS.format(mean=0, scale=1, value="(+ mu (* tau (get b g)))")
GROUPS_DATA = np.array([0.5, 1.1, 2.3, -0.7, 2.2, -1.4, 0.2, 0.9, 3.5])
GROUP = np.array([0, 0, 1, 2, 3, 4, 5, 6, 6])

CHILD = """
(let [s (sample (gamma 2 2))
      w (foreach 8 [] (sample (normal 0 s)))
      c (sample (normal (+ 1 (get w 0) (* 2 (get w 1))) 0.5))
      d (sample (normal 0 1))]
  (observe (normal (+ (* (exp c) (get w 2)) (/ (get w 3) (+ 1 (* d d)))) 1) 0.7)
  (observe (normal (if (> d 0) (get w 4) (- (get w 5) c)) 0.5) -0.4)
  (observe (normal (exp c) 1) 2.0)
  c)
"""
"""A latent that is kept reads two that are not."""


def level_covariance(q, r):
    """Return the covariances of the local level's data, [*scale, datum, datum]."""
    num = len(LEVEL_DATA)
    steps = np.minimum.outer(np.arange(1, num + 1), np.arange(1, num + 1))
    q, r = np.asarray(q)[..., None, None], np.asarray(r)[..., None, None]
    return 4.0 + q**2 * steps + r**2 * np.eye(num)


def level(q, r):
    """Return the log evidence of the local level given its scales, one or many."""
    cov, gap = level_covariance(q, r), LEVEL_DATA - 1.0
    pull = np.linalg.solve(cov, np.broadcast_to(gap[:, None], (*cov.shape[:-1], 1)))
    log_det = np.linalg.slogdet(2.0 * np.pi * cov)[1]
    return -0.5 * (log_det + (pull[..., 0] * gap).sum(-1))


def groups(tau, s):
    """Return the log evidence of the groups given their scales."""
    same = GROUP[:, None] == GROUP
    cov = 9.0 + tau**2 * same + s**2 * np.eye(len(GROUP))
    return scipy.stats.multivariate_normal(np.ones(len(GROUP)), cov).logpdf(GROUPS_DATA)
