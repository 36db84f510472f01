"""Tests of flows.kernels.tiles: vectors of 16 lanes."""

import numpy as np
import pytest

from flows.kernels import tiles


def applied(function, values):
    """What a function of vectors gives."""
    padded = np.ones(-(-values.size // 16) * 16, dtype=np.float32)
    padded[: values.size] = values
    found = np.empty_like(padded)

    @tiles.compiled
    def apply(source, target):
        for at in range(0, source.size, 16):
            tiles.store(target, at, function(tiles.load(source, at)))

    apply(padded, found)
    return found[: values.size]


SPECIAL = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)


def test_tanh_is_accurate():
    values = np.concatenate(
        [np.linspace(-12, 12, 4000), np.linspace(-1e-2, 1e-2, 400), SPECIAL, [0.0]]
    ).astype(np.float32)
    exact = np.tanh(values.astype(np.float64))
    np.testing.assert_allclose(
        applied(tiles.tanh, values), exact, rtol=3e-7, atol=1e-37
    )


def test_exp_is_accurate():
    values = np.concatenate(
        [np.linspace(-87, 87, 4001), np.linspace(-1e-2, 1e-2, 400), [0.0]]
    ).astype(np.float32)
    exact = np.exp(values.astype(np.float64))
    np.testing.assert_allclose(applied(tiles.exp, values), exact, rtol=3e-7)
    beyond = applied(tiles.exp, np.concatenate([SPECIAL, [-200.0]]).astype("f4"))
    assert np.isnan(beyond[0])
    np.testing.assert_allclose(beyond[1:], np.exp([87.0, -87.0, -87.0]), rtol=3e-7)


@pytest.mark.parametrize(
    "values",
    [np.geomspace(2e-38, 3e38, 4001), np.linspace(0.5, 2.0, 2001)],
)
def test_log_is_accurate(values):
    values = values.astype(np.float32)
    exact = np.log(values.astype(np.float64))
    np.testing.assert_allclose(applied(tiles.log, values), exact, rtol=3e-7, atol=1e-7)


def test_maximum_takes_the_larger_lane():
    values = np.linspace(-3, 3, 32).astype(np.float32)

    @tiles.compiled
    def above(value):
        return tiles.maximum(value, tiles.splat(0.5))

    assert (applied(above, values) == np.maximum(values, np.float32(0.5))).all()
