"""Tests of flows.front.arguments: what Python programs give is read or refused."""

import numpy as np
import pytest
import torch

import flows
from flows.front.train import settings_for

PROGRAM = "(let [m (sample (normal 0 1))] (observe (normal m 1) 0.5) m)"
QUICK = {"budget_seconds": 0.0, "max_iterations": 2, "certify_draws": 50}
ONE = torch.zeros(1, 1, dtype=torch.float64)
NO_SEEDS = [1.5, "1", True, None, -1, 2**70]


@pytest.fixture(scope="module")
def model():
    return flows.Model.from_program(PROGRAM)


@pytest.fixture(scope="module")
def posterior(model):
    return flows.train(model, config=QUICK, engine="torch")


def refused(where, call):
    with pytest.raises(flows.FlowsError) as caught:
        call()
    (problem,) = caught.value.problems
    assert problem.where == where
    assert problem.expected
    assert problem.got


def test_seeds_and_numbers_of_numpy_are_those_of_python(model, posterior):
    def drawn(seed, num):
        trained = flows.train(model, config=QUICK, engine="torch", seed=seed)
        return trained.sample(num_particles=num, seed=seed).latents

    assert torch.equal(drawn(np.int64(3), np.int32(5)), drawn(3, 5))
    assert flows.infer(model, seed=np.int64(3)).is_trusted
    posterior.log_prob(ONE, seed=np.int64(3))


@pytest.mark.parametrize("seed", NO_SEEDS)
def test_what_is_no_seed_is_refused(model, posterior, seed):
    for call in (
        lambda: flows.train(model, seed=seed),
        lambda: flows.infer(model, seed=seed),
        lambda: flows.refine(model, seed=seed),
        lambda: flows.learn(model, [{"observe1": 1.0}], ["m"], seed=seed),
        lambda: posterior.sample(seed=seed),
        lambda: posterior.log_prob(ONE, seed=seed),
    ):
        refused("seed", call)


@pytest.mark.parametrize("num", [0, -1, 1.5, "10", None, True])
def test_what_is_no_number_of_particles_is_refused(posterior, num):
    refused("num_particles", lambda: posterior.sample(num_particles=num))


@pytest.mark.parametrize("data", [3, "x", [1.0], []])
def test_what_is_no_data_is_refused(model, posterior, data):
    refused("observed", lambda: posterior.sample(data))
    refused("observed", lambda: flows.infer(model, data))


@pytest.mark.parametrize(
    "latents", [None, 3, [[1.0]], np.zeros((2, 1)), torch.zeros(2), torch.zeros(2, 2)]
)
def test_what_is_no_row_of_latents_is_refused(posterior, latents):
    refused("latents", lambda: posterior.log_prob(latents))


def test_what_is_no_place_is_refused(model, posterior):
    for place in (3, None, b"x"):
        refused("path", lambda place=place: flows.load(place, model))
        refused("path", lambda place=place: posterior.save(place))
    refused("checkpoint", lambda: flows.train(model, checkpoint=3))
    for config in (3, []):
        refused("config", lambda config=config: flows.train(model, config=config))


@pytest.mark.parametrize("budget", [[], b"3s", 0, float("nan")])
def test_what_is_no_budget_is_refused(model, budget):
    refused("budget", lambda: flows.train(model, budget=budget))
    refused("budget", lambda: flows.infer(model, budget=budget))


@pytest.mark.parametrize("device", [None, [], "cpu:1", "cpu:99", "tpu"])
def test_what_is_no_device_is_refused(model, device):
    refused("device", lambda: flows.train(model, device=device))


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_every_name_of_the_cpu_is_the_cpu(model, device):
    assert settings_for(model, device=device) == settings_for(model)
    flows.train(model, config=QUICK, device=device)
