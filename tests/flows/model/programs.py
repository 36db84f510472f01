"""This file holds programs for the tests of the target density."""

import torch

from daphne_bridge.compiler import compile_program
from daphne_bridge.graph.document import NodeNames, document_from_json
from daphne_bridge.graph.graph import Graph
from flows.model.model import Model

__all__ = [
    "CONTINUOUS",
    "PROGRAMS",
    "draws_of",
    "generator_of",
    "graph_of",
    "graph_of_links",
    "model_of",
]


def graph_of(text: str) -> Graph:
    """Return the graph of a program's text."""
    compilation = compile_program(text, "test.daphne")
    return Graph.from_document(
        document_from_json(compilation.document),
        NodeNames(labels=compilation.labels),
    )


PROGRAMS = {
    "arithmetic_circuit": """
(let [z0 (sample (laplace 5 1))
      z1 (sample (laplace -2 1))
      z2 (sample (normal (tanh (- (+ z0 z1) 2.8)) 0.1))
      z3 (sample (normal (* z0 z1) 0.1))
      z4 (sample (normal 7 2))
      z5 (sample (normal (tanh (+ z3 z4)) 0.1))]
  (observe (normal z3 0.1) -9.7)
  (observe (normal z5 0.1) 0.85)
  [z0 z1 z2 z3 z4 z5])""",
    "gaussian_tree": """
(let [x0 (sample (normal 20 10))
      a (sample (normal x0 5))
      b (sample (normal x0 5))
      a0 (sample (normal a 1))
      b1 (sample (normal b 1))]
  (observe (normal a0 1) 21.5)
  (observe (normal b1 1) 17.0)
  x0)""",
    "state_space": """
(defn step [t xs ys]
  (let [x (sample (normal (* 0.9 (last xs)) 0.5))]
    (observe (normal x 0.3) (get ys t))
    (conj xs x)))
(let [ys [0.4 0.1 -0.3 0.8 1.1]
      x0 (sample (normal 0 5))]
  (loop 5 [x0] step ys))""",
    "regression": """
(let [xs [-1.0 0.0 0.5 2.0]
      ys [-0.7 0.1 0.4 2.2]
      slope (sample (normal 0 3))
      intercept (sample (normal 0 3))
      sigma (sample (gamma 2 2))]
  (foreach 4 [x xs y ys]
    (observe (normal (+ (* slope x) intercept) sigma) y))
  [slope intercept sigma])""",
    "logistic": """
(let [xs [-2.0 -1.0 0.5 2.0]
      ys [false false true true]
      w (sample (normal 0 3))
      b (sample (normal 0 3))]
  (foreach 4 [x xs y ys]
    (observe (flip (/ 1.0 (+ 1.0 (exp (* -1.0 (+ (* w x) b)))))) y))
  [w b])""",
    "mixture": """
(let [ys [-1.2 -0.8 3.1]
      p (sample (dirichlet [1.0 2.0]))
      m0 (sample (normal -1 2))
      m1 (sample (normal 2 2))]
  (foreach 3 [y ys]
    (let [k (sample (discrete p))]
      (observe (normal (get [m0 m1] k) 0.5) y))))""",
    "branches": """
(let [z (sample (flip 0.4))
      u (sample (uniform-continuous 0 1))
      x (sample (normal 0 1))
      y (sample (if z (normal x 1) (laplace x 2)))]
  (if z (observe (normal x 1) 0.7) (observe (normal (- x) 2) 0.1))
  (if (> x u) (observe (gamma (+ u 1) 2) 0.3) (observe (poisson (+ u 1)) 2))
  [z u x y])""",
    "colours": """
(let [c (sample (categorical [[:red 0.2] [:green 0.5] [:blue 0.3]]))
      n (sample (categorical [[10 1] [20 2] [30 1]]))
      m (get {:red 1.0 :green 2.0 :blue 4.0} c)
      x (sample (normal (+ m n) (if (= c :green) 0.5 2)))]
  (observe (normal x 1) 21.0)
  (observe (categorical [["a" m] ["b" 1]]) "b")
  [c n x])""",
    "bounds": """
(let [low (sample (exponential 2))
      high (sample (uniform-continuous (+ low 1) (+ low 3)))
      mid (sample (uniform-continuous low high))
      p (sample (beta 2 3))]
  (observe (normal mid 0.2) 1.4)
  (observe (binomial 5 p) 2)
  [low high mid p])""",
    "matrices": """
(let [m (sample (mvn [0 1] [[2 0.5] [0.5 1]]))
      w (sample (wishart 4 [[1 0.2] [0.2 2]]))
      t (sample (multivariate-t 5 m [[1 0] [0 1]]))]
  (observe (mvn (mat-mul [[1 2] [3 4]] m) w) [0.3 -0.4])
  (observe (normal (get (get w 0) 1) (get (get w 1) 1)) 0.5)
  (observe (dirichlet [2 2 2]) [0.2 0.3 0.5])
  [m w t])""",
}
"""Programs by name, together covering every part of the model."""

CONTINUOUS = [
    name for name in PROGRAMS if name not in ("mixture", "branches", "colours")
]
"""Those whose latents all have free coordinates."""


def model_of(name, **options):
    """Return the graph and the model of a program by its name."""
    graph = graph_of(PROGRAMS[name])
    return graph, Model.from_graph(graph, **options)


def generator_of(seed=3):
    """Return a seeded source of randomness."""
    return torch.Generator().manual_seed(seed)


def draws_of(model, num=6, seed=3):
    """Return joint draws of a model."""
    return model.sample(num, generator=generator_of(seed))


def graph_of_links(links, data=None):
    """Return the graph of link functions by name, and of data."""
    parts = {"V": list(links), "A": {}, "P": links, "Y": data or {}}
    return Graph.from_document(document_from_json([{}, parts, None], "test.json"))
