"""Tests of flows.model.columns."""

import pytest
import torch

from flows.errors import ModelError

from .programs import draws_of, model_of


def test_batches_have_any_shape_and_one_row_of_data_serves_all():
    _, model = model_of("regression")
    draws = draws_of(model, 6)
    flat = model.log_joint(draws.latents, draws.observed)
    shaped = model.log_joint(
        draws.latents.view(2, 3, -1), draws.observed.view(2, 3, -1)
    )
    assert torch.equal(shaped, flat.view(2, 3))
    one = model.log_joint(draws.latents, draws.observed[0])
    crossed = model.log_joint(draws.latents[:, None], draws.observed[None])
    assert crossed.shape == (6, 6)
    assert torch.allclose(crossed[:, 0], one)
    assert torch.allclose(crossed.diagonal(), flat)
    wide = model.log_joint(draws.latents.expand(2, -1, -1), draws.observed)
    assert torch.allclose(wide, flat.expand(2, -1))
    assert model.log_joint(draws.latents[0], draws.observed[0]).shape == ()
    many = model.log_joint(draws.latents[0], draws.observed)
    assert torch.allclose(many, crossed[0])
    none = model.log_joint(draws.latents[:0], draws.observed[0])
    assert none.shape == (0,)
    assert model.constrain(draws.latents[:0])[0].shape == (0, 3)
    assert draws_of(model, 0).observed.shape == (0, 4)


def test_arguments_of_the_wrong_shape_or_type_are_refused():
    _, model = model_of("regression")
    good, data = torch.zeros(2, 3, dtype=torch.float64), model.observation()
    with pytest.raises(
        ModelError, match="latents: wrong number of columns; expected 3"
    ):
        model.log_joint(good[:, :2], data)
    with pytest.raises(ModelError, match="observed: wrong number of columns"):
        model.log_joint(good, data[:2])
    with pytest.raises(ModelError, match="type differs"):
        model.log_joint(good, data.float())
    with pytest.raises(ModelError, match="rows do not match"):
        model.log_joint(good, data.expand(5, -1))
