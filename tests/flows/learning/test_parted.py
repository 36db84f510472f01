"""Tests of flows.learning.parted."""

import pytest
import torch

from flows.errors import ArgumentError
from flows.learning.parted import PartedModel

from .programs import COMPONENTS, HIERARCHICAL, MARKOV, model_of


def test_the_joint_density_is_that_of_the_parts():
    model = model_of(HIERARCHICAL)
    parted = PartedModel.of(model, [*COMPONENTS])
    draws = model.sample(20, generator=torch.Generator().manual_seed(0))
    values, z = draws.latents[:, :3], draws.latents[:, 3:]
    rows = parted.rows.log_joint(z, parted.observed(values, draws.observed))
    whole = model.log_joint(draws.latents, draws.observed)
    assert torch.allclose(rows, whole, rtol=1e-12)
    none = values.new_zeros(20, 0)
    without = whole - parted.prior.log_joint(values, none)
    assert not torch.allclose(rows, without)


def test_a_name_stands_for_the_entries_of_its_vector():
    text = """(defn more [i ws] (let [w (sample (normal 0 1))] (conj ws w)))
              (let [ws (loop 2 [] more)] (observe (normal (get ws 0) 1) 0.5) ws)"""
    model = model_of(text)
    assert PartedModel.of(model, ["w"]).labels == ("w[0]", "w[1]")


def test_the_learned_model_has_the_density_given_the_parameters():
    model = model_of(HIERARCHICAL)
    parted = PartedModel.of(model, [*COMPONENTS])
    draws = model.sample(1, generator=torch.Generator().manual_seed(0))
    values, z = draws.latents[0, :3], draws.latents[:, 3:]
    learned = parted.learned(values)
    assert [v.label for v in learned.layout.latents] == ["z"]
    known = parted.prior.log_joint(values, values.new_zeros(0))
    whole = model.log_joint(draws.latents, draws.observed)
    assert torch.allclose(learned.log_joint(z, draws.observed), whole - known)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["sigmo"], "no latent has this name; .*: mu, tau, sigma, perhaps sigma"),
        (["y0"], "it is observed"),
        (["z"], "it depends on mu, tau, so that it belongs to a row"),
        ([], "nothing to learn"),
    ],
)
def test_a_name_that_is_no_parameter_is_refused(names, said):
    with pytest.raises(ArgumentError, match=said):
        PartedModel.of(model_of(HIERARCHICAL), names)


def test_a_discrete_parameter_is_refused():
    text = "(let [k (sample (flip 0.5))] (observe (normal (if k 1 0) 1) 0.5) k)"
    with pytest.raises(ArgumentError, match="it is discrete"):
        PartedModel.of(model_of(text), ["k"])


def test_a_program_that_observes_nothing_is_refused():
    with pytest.raises(ArgumentError, match="observes nothing"):
        PartedModel.of(model_of("(let [m (sample (normal 0 1))] m)"), ["m"])


def test_every_wrong_name_is_said_at_once():
    with pytest.raises(ArgumentError) as found:
        PartedModel.of(model_of(MARKOV), ["stay", "lave", "m3"])
    assert len(found.value.problems) == 2
