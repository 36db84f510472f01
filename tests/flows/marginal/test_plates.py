"""Tests of flows.marginal.plates: a plate summed as one against table by table."""

import pytest
import torch

from flows.errors import ModelError
from flows.marginal.plates import find_plates
from flows.marginal.target import collapse
from flows.model.model import Model
from tests.flows.model.programs import graph_of

POINTS = [0.3 * (n % 7) - (4.0 if n % 3 else 0.0) for n in range(200)]

OF_CLUSTERS = """
(defn draw [n ys shares mu]
  (let [k (sample (discrete shares))
        m (nth mu k)]
    (observe (normal m (if (= k 0) 1.0 (exp m))) (nth ys n))
    n))
(let [shares (sample (dirichlet [2 3 4]))
      mu [(sample (normal 0 2)) (sample (normal 0 1)) (sample (normal -1 1))]
      ys [%s]]
  (foreach 200 [n (range 200)] (draw n ys shares mu))
  mu)"""
OF_PAIRS = """
(defn draw [n ys a b]
  (let [k (sample (flip 0.3))]
    (observe (normal (if k a b) 1) (nth ys n))
    (observe (normal (if k b a) 2) (- (nth ys n)))
    (observe (normal 1 3) (nth ys n))
    n))
(let [a (sample (normal 0 1))
      b (sample (normal 2 1))
      ys [%s]]
  (foreach 200 [n (range 200)] (draw n ys a b))
  [a b])"""
OF_SCALES = """
(defn draw [n ys s]
  (let [k (sample (discrete [0.4 0.3 0.3]))]
    (observe (normal k (if (= k 0) s 2)) (nth ys n))))
(let [s (sample (normal 1 1))
      ys [%s]]
  (foreach 200 [n (range 200)] (draw n ys s))
  s)"""

CHAIN = """
(defn advance [t k ys]
  (let [k (sample (discrete (if (= k 0) [0.8 0.2] [0.3 0.7])))]
    (observe (normal k 1) (nth ys t))
    k))
(loop 200 0 advance [%s])"""


def collapsed(program: str):
    return collapse(Model.from_graph(graph_of(program % " ".join(map(str, POINTS)))))


@pytest.mark.parametrize(
    ("program", "entries"), [(OF_CLUSTERS, 1), (OF_PAIRS, 2)], ids=["clusters", "pairs"]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_plate_is_the_sum_of_its_tables(program, entries, dtype):
    model = collapsed(program)
    (plate,) = find_plates(model.tables)
    assert plate.columns.shape == (entries, len(POINTS))
    generator = torch.Generator().manual_seed(1)
    draws = model.sample(70, generator=generator, dtype=dtype)
    tolerance = {"rtol": 1e-10, "atol": 1e-9}
    if dtype == torch.float32:
        tolerance = {"rtol": 1e-4, "atol": 1e-2}
    for observed in (draws.observed, model.observation(like=draws.latents)):
        latents = draws.latents.clone().requires_grad_()
        found = model.log_joint(latents, observed)
        right = model.log_sum(model._whole, latents, observed)
        assert found.dtype == right.dtype == dtype
        torch.testing.assert_close(found, right, **tolerance)
        slopes = [torch.autograd.grad(v.sum(), latents)[0] for v in (found, right)]
        torch.testing.assert_close(*slopes, **tolerance)


def test_rows_without_meaning_are_looked_at_table_by_table():
    model = collapsed(OF_SCALES)
    assert find_plates(model.tables)
    observed = model.observation()
    good, bad = torch.tensor([[1.5]]).double(), torch.tensor([[1.5], [-0.5]]).double()
    alone = model.log_joint(good, observed)
    found = model.forgiving().log_joint(bad, observed)
    assert found[0] == pytest.approx(float(alone), rel=1e-12)
    # The other component has a meaning: only what is impossible weighs nothing.
    whole = model.forgiving().log_sum(model._whole, bad, observed)
    assert torch.equal(found, whole)
    with pytest.raises(ModelError, match="without meaning"):
        model.log_joint(bad, observed)


def test_data_that_want_slopes_have_them():
    model = collapsed(OF_CLUSTERS)
    generator = torch.Generator().manual_seed(1)
    draws = model.sample(2, generator=generator)
    observed = draws.observed.requires_grad_()
    value = model.log_joint(draws.latents, observed).sum()
    (slope,) = torch.autograd.grad(value, observed)
    step = torch.zeros_like(slope)
    step[0, 5] = 1e-5
    with torch.no_grad():
        up, down = (
            model.log_joint(draws.latents, observed + sign * step).sum()
            for sign in (1, -1)
        )
    assert float(slope[0, 5]) == pytest.approx(float(up - down) / 2e-5, rel=1e-5)


def test_chains_and_small_mixtures_have_no_plates():
    small = OF_CLUSTERS.replace("200", "3") % "1 2 3"
    chain = CHAIN % " ".join(map(str, POINTS))
    for program in (small, chain):
        model = collapse(Model.from_graph(graph_of(program)))
        assert find_plates(model.tables) == ()
