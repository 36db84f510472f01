"""Programs as courses and papers publish them, against their exact answers.

Evidence and returned means come from conjugacy, enumeration or quadrature in numpy and
scipy alone.
"""

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

import flows
from flows.model.model import Model
from tests.flows.model.programs import graph_of

norm = stats.norm


def enumerated(states, weight, *of):
    """Log evidence and means of functions of a state, by its weight."""
    states = list(states)
    weights = np.array([weight(*state) for state in states])
    values = [np.array([f(*state) for state in states]) for f in of]
    total = weights.sum()
    return math.log(total), [float(weights @ v / total) for v in values]


def integrated(axes, log_density, *of):
    """Log evidence and means of functions on a grid."""
    points = np.meshgrid(*axes, indexing="ij")
    logs = log_density(*points)
    highest = logs.max()
    weights = np.exp(logs - highest)
    cell = math.prod(axis[1] - axis[0] for axis in axes)
    means = [float((weights * f(*points)).sum() / weights.sum()) for f in of]
    return math.log(weights.sum() * cell) + highest, means


def regression(design, data, prior_sd, sd):
    marginal = sd**2 * np.eye(len(data)) + prior_sd**2 * design @ design.T
    precision = design.T @ design / sd**2 + np.eye(design.shape[1]) / prior_sd**2
    evidence = stats.multivariate_normal(np.zeros(len(data)), marginal).logpdf(data)
    return evidence, list(np.linalg.solve(precision, design.T @ data / sd**2))


def hidden_markov(data):
    transitions = np.array([[0.1, 0.5, 0.4], [0.2, 0.2, 0.6], [0.15, 0.15, 0.7]])
    weights, evidence = np.array([0.33, 0.33, 0.34]), 0.0
    for y in data:
        weights = weights @ transitions * norm.pdf(y, [-1, 1, 0], 1)
        evidence += math.log(weights.sum())
        weights = weights / weights.sum()
    return evidence, [float(weights @ np.arange(3))]


def gamma_counts(counts):
    """Log evidence of Poisson counts with a rate of gamma(2, 1)."""
    total, num = sum(counts), len(counts)
    return (
        special.gammaln(2 + total)
        - (2 + total) * math.log(1 + num)
        - special.gammaln(np.array(counts) + 1).sum()
    )


COUNTS = [4, 5, 4, 1, 0, 4, 0, 1, 0, 1, 0, 0]
PUMPS = ([5, 1, 5, 14, 3], [94.3, 15.7, 62.9, 126.0, 5.24])

PROGRAMS = {
    "rain and sprinkler, distributions chosen by if": (
        """
(let [cloudy (sample (flip 0.5))
      rain (if (= cloudy true) (sample (flip 0.8)) (sample (flip 0.2)))
      sprinkler (if (= cloudy true) (sample (flip 0.1)) (sample (flip 0.5)))
      wet (if (and (= sprinkler true) (= rain true)) (flip 0.99)
            (if (or (= sprinkler true) (= rain true)) (flip 0.9) (flip 0.0)))]
  (observe wet true)
  rain)""",
        lambda: enumerated(
            itertools.product((0, 1), repeat=3),
            lambda c, r, s: (
                0.5
                * (1 - abs(r - (0.2, 0.8)[c]))
                * (1 - abs(s - (0.5, 0.1)[c]))
                * (0.0, 0.9, 0.99)[r + s]
            ),
            lambda c, r, s: r,
        ),
    ),
    "Monty Hall": (
        """
(let [prize (sample (uniform-discrete 0 3))
      host (if (= prize 0) (discrete [0 1 1])
             (if (= prize 1) (discrete [0 0 1]) (discrete [0 1 0])))]
  (observe host 2)
  (= prize 1))""",
        lambda: (math.log(0.5), [2 / 3]),
    ),
    "linear regression by a function of a row": (
        """
(defn observe-row [_ row slope bias]
  (observe (normal (+ (* slope (get row 0)) bias) 1.0) (get row 1)))
(let [slope (sample (normal 0.0 10.0))
      bias (sample (normal 0.0 10.0))
      data (vector (vector 1.0 2.1) (vector 2.0 3.9) (vector 3.0 5.3))]
  (foreach 3 [i (range 3)] (observe-row i (get data i) slope bias))
  (vector slope bias))""",
        lambda: regression(
            np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]),
            np.array([2.1, 3.9, 5.3]),
            10.0,
            1.0,
        ),
    ),
    "hidden Markov model by loop and append": (
        """
(defn hmm-step [t states data trans-dists likes]
  (let [z (sample (get trans-dists (last states)))]
    (observe (get likes z) (get data t))
    (append states z)))
(let [data [0.9 0.8 0.7 0.0 -0.025 -5.0 -2.0]
      trans-dists [(discrete [0.10 0.50 0.40])
                   (discrete [0.20 0.20 0.60])
                   (discrete [0.15 0.15 0.70])]
      likes [(normal -1.0 1.0) (normal 1.0 1.0) (normal 0.0 1.0)]
      states [(sample (discrete [0.33 0.33 0.34]))]]
  (last (loop 7 states hmm-step data trans-dists likes)))""",
        lambda: hidden_markov([0.9, 0.8, 0.7, 0.0, -0.025, -5.0, -2.0]),
    ),
    "change point, a map returned": (
        f"""
(let [data {str(COUNTS).replace(",", "")}
      t (sample (uniform-discrete 0 12))
      early (sample (gamma 2 1))
      late (sample (gamma 2 1))]
  (foreach 12 [i (range 12) y data] (observe (poisson (if (< i t) early late)) y))
  {{:switch t :rates [early late]}})""",
        lambda: enumerated(
            ((t,) for t in range(12)),
            lambda t: (
                math.exp(gamma_counts(COUNTS[:t]) + gamma_counts(COUNTS[t:])) / 12
            ),
            lambda t: t,
            lambda t: (2 + sum(COUNTS[:t])) / (1 + t),
            lambda t: (2 + sum(COUNTS[t:])) / (13 - t),
        ),
    ),
    "mixture with unknown weights": (
        """
(let [w (sample (dirichlet [1.0 1.0])) means [-2.0 2.0]]
  (foreach 4 [y [-2.1 2.2 1.8 2.0]]
    (let [z (sample (discrete w))] (observe (normal (get means z) 1.0) y)))
  (get w 0))""",
        lambda: enumerated(
            itertools.product((0, 1), repeat=4),
            lambda *z: (
                special.beta(1 + z.count(0), 1 + z.count(1))
                * np.prod(norm.pdf([-2.1, 2.2, 1.8, 2.0], np.array([-2, 2])[list(z)]))
            ),
            lambda *z: (1 + z.count(0)) / 6,
        ),
    ),
    "grades of two countries: a mass beside a density (Wu et al. 2018)": (
        """
(let [american (sample (flip 0.25)) perfect (sample (flip 0.1))
      grade (if american (if perfect (dirac 4.0) (uniform-continuous 0 4))
                (if perfect (dirac 10.0) (uniform-continuous 0 10)))]
  (observe grade 4.0)
  american)""",
        lambda: (math.log(0.25 * 0.1), [1.0]),
    ),
    "zeros among exponential times": (
        """
(let [idle (sample (beta 1 1)) rate (sample (gamma 2 1))]
  (foreach 4 [y [0.0 1.3 0.0 0.4]]
    (observe (if (sample (flip idle)) (dirac 0) (exponential rate)) y))
  [idle rate])""",
        lambda: (
            math.log(special.beta(3, 3))
            + special.gammaln(4)
            - special.gammaln(2)
            - 4 * math.log(1 + 1.7),
            [0.5, 4 / 2.7],
        ),
    ),
    "spike and slab": (
        """
(let [is-in (sample (flip 0.3))
      effect (sample (if is-in (normal 0 2) (dirac 0)))]
  (observe (normal effect 1) 1.5)
  [is-in effect])""",
        lambda: (
            math.log(0.3 * norm.pdf(1.5, 0, 5**0.5) + 0.7 * norm.pdf(1.5)),
            [
                (
                    share := 1
                    / (1 + 0.7 * norm.pdf(1.5) / 0.3 / norm.pdf(1.5, 0, 5**0.5))
                ),
                share * 1.5 * 4 / 5,
            ],
        ),
    ),
    "a count, or one value": (
        """
(let [count (sample (if (sample (flip 0.3)) (dirac 2) (poisson 1)))]
  (observe (normal count 1) 1)
  count)""",
        lambda: enumerated(
            ((n,) for n in range(40)),
            lambda n: (0.3 * (n == 2) + 0.7 * stats.poisson.pmf(n, 1)) * norm.pdf(1, n),
            lambda n: n,
        ),
    ),
    "mark and recapture": (
        """
(let [n (+ 20 (sample (uniform-discrete 0 181)))]
  (observe (binomial 12 (/ 10 n)) 3)
  n)""",
        lambda: enumerated(
            ((n,) for n in range(20, 201)),
            lambda n: stats.binom.pmf(3, 12, 10 / n) / 181,
            lambda n: n,
        ),
    ),
    "item response": (
        """
(defn sigmoid [x] (/ 1 (+ 1 (exp (- x)))))
(let [difficulty [-1 0 1] theta (sample (normal 0 1))]
  (foreach 3 [d difficulty y [1 1 0]] (observe (bernoulli (sigmoid (- theta d))) y))
  theta)""",
        lambda: integrated(
            [np.linspace(-9, 9, 20_001)],
            lambda t: (
                norm.logpdf(t)
                + np.log(
                    special.expit(t + 1) * special.expit(t) * (1 - special.expit(t - 1))
                )
            ),
            lambda t: t,
        ),
    ),
    "survival with censored times": (
        """
(let [rate (sample (gamma 1 1))]
  (foreach 4 [t [0.5 1.2 2.0 2.0] died [true true false false]]
    (if died
      (observe (exponential rate) t)
      (observe (flip (exp (* -1 rate t))) true)))
  rate)""",
        lambda: (special.gammaln(3) - 3 * math.log(6.7), [3 / 6.7]),
    ),
    "pumps, a rate for each": (
        f"""
(let [beta (sample (gamma 0.1 1)) alpha (sample (exponential 1))]
  (foreach 5 [x {str(PUMPS[0]).replace(",", "")} t {str(PUMPS[1]).replace(",", "")}]
    (observe (poisson (* t (sample (gamma alpha beta)))) x))
  [alpha beta])""",
        lambda: integrated(
            [np.linspace(1e-4, 9, 1200), np.linspace(1e-4, 14, 1600)],
            lambda a, b: (
                stats.gamma.logpdf(b, 0.1)
                - a
                + sum(
                    a * np.log(b)
                    - special.gammaln(a)
                    + special.gammaln(a + x)
                    - (a + x) * np.log(b + t)
                    + x * math.log(t)
                    - special.gammaln(x + 1)
                    for x, t in zip(*PUMPS, strict=True)
                )
            ),
            lambda a, b: a,
            lambda a, b: b,
        ),
    ),
    "noisy or by map and reduce": (
        """
(let [ds (map (fn [p] (sample (flip p))) [0.1 0.2 0.05])
      none (reduce * 0.99 (map (fn [d q] (if d q 1.0)) ds [0.3 0.5 0.2]))]
  (observe (flip (- 1 none)) true)
  ds)""",
        lambda: enumerated(
            itertools.product((0, 1), repeat=3),
            lambda *d: (
                np.prod(np.abs(np.subtract(1 - np.array(d), [0.1, 0.2, 0.05])))
                * (1 - 0.99 * np.prod(np.where(d, [0.3, 0.5, 0.2], 1.0)))
            ),
            *(lambda *d, i=i: d[i] for i in range(3)),
        ),
    ),
    "geometric by recursion of known depth": (
        """
(defn geometric-up-to [n p]
  (if (= n 0) 0 (if (sample (flip p)) 0 (+ 1 (geometric-up-to (- n 1) p)))))
(let [k (geometric-up-to 12 0.3)]
  (observe (normal k 1) 4.0)
  k)""",
        lambda: enumerated(
            ((k,) for k in range(13)),
            lambda k: (0.3 if k < 12 else 1.0) * 0.7**k * norm.pdf(4, k, 1),
            lambda k: k,
        ),
    ),
    "a vector observed, its mean a function of a latent": (
        """
(let [m (sample (normal 0 2))]
  (observe (mvn [m (* 2 m)] [[1 0.3] [0.3 2]]) [1.0 2.5])
  m)""",
        lambda: integrated(
            [np.linspace(-9, 11, 20_001)],
            lambda m: (
                norm.logpdf(m, 0, 2)
                + stats.multivariate_normal([0, 0], [[1, 0.3], [0.3, 2]]).logpdf(
                    np.stack([1.0 - m, 2.5 - 2 * m], -1)
                )
            ),
            lambda m: m,
        ),
    ),
    "an urn without replacement": (
        """
(let [red (sample (uniform-discrete 0 11))]
  (observe (flip (/ red 10)) true)
  (observe (flip (/ (- red 1) 9)) true)
  (observe (flip (/ (- red 2) 8)) false)
  red)""",
        lambda: enumerated(
            ((r,) for r in range(2, 11)),
            lambda r: r * (r - 1) * (10 - r) / (11 * 720),
            lambda r: r,
        ),
    ),
    "words as keys, naive Bayes": (
        """
(let [spam (sample (flip 0.3))
      table {true {"free" 0.8 "meeting" 0.1} false {"free" 0.2 "meeting" 0.6}}]
  (observe (flip (get (get table spam) "free")) true)
  (observe (flip (get-in table [spam "meeting"])) false)
  spam)""",
        lambda: (math.log(0.216 + 0.056), [0.216 / 0.272]),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_published_program_has_its_exact_answer(name):
    text, exact = PROGRAMS[name]
    log_evidence, means = exact()
    found = flows.infer(Model.from_graph(graph_of(text)), budget="2m", seed=0)
    assert found.is_trusted
    error = found.log_evidence_standard_error
    assert found.log_evidence == pytest.approx(log_evidence, abs=5 * error + 1e-4)
    leaves = list(figures(found.returned))
    assert len(leaves) == len(means)
    for leaf, mean in zip(leaves, means, strict=True):
        assert leaf.mean == pytest.approx(mean, abs=5 * leaf.mc_error + 1e-4)


def figures(value):
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from figures(part)
    else:
        yield value


def clusters(data):
    """Log evidence, and the mean of whether the first two are of one cluster.

    Three clusters with N(0, 10) and gamma(1, 1), their shares integrated out; the
    middle of a cluster in closed form, its scale on a grid.
    """
    logs = np.linspace(-14.0, 4.0, 4001)
    scales = np.exp(logs)

    def evidence(mine):
        if not mine.any():
            return 0.0
        values, num = data[mine], mine.sum()
        around = ((values - values.mean()) ** 2).sum()
        inside = -(num - 1) / 2 * np.log(2 * np.pi * scales**2) - np.log(num) / 2
        middle = norm.logpdf(values.mean(), 0, np.sqrt(100 + scales**2 / num))
        terms = inside - around / (2 * scales**2) + middle - scales + logs
        return special.logsumexp(terms) + math.log(logs[1] - logs[0])

    def weight(*states):
        mine = [np.array(states) == k for k in range(3)]
        shares = sum(special.gammaln(each.sum() + 1) for each in mine)
        total = sum(evidence(each) for each in mine) + shares
        return math.exp(total + special.gammaln(3) - special.gammaln(3 + len(data)))

    states = itertools.product(range(3), repeat=len(data))
    return enumerated(states, weight, lambda *z: z[0] == z[1])


@pytest.mark.slow
def test_clusters_with_and_without_points_are_answered_and_trusted():
    data = [1.1, 2.1, 2.0, 1.9, 0.0, -0.1, -0.05]
    evidence, (same,) = clusters(np.array(data))
    text = f"""(let [likes (foreach 3 [] (normal (sample (normal 0 10))
                                              (sample (gamma 1 1))))
                     shares (sample (dirichlet [1 1 1]))
                     z (foreach 7 [y [{" ".join(map(str, data))}]]
                         (let [z (sample (discrete shares))]
                           (observe (get likes z) y) z))]
                 (= (first z) (second z)))"""
    answer = flows.infer(Model.from_graph(graph_of(text)))
    assert answer.is_trusted, answer.cautions
    error = answer.log_evidence_standard_error
    assert abs(answer.log_evidence - evidence) < max(5 * error, 0.1)
    assert answer.returned.mean == pytest.approx(same, abs=0.03)
