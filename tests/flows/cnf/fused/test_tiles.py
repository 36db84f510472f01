"""Tests of flows.cnf.fused.tiles: vectors of 16 lanes."""

import numpy as np

from flows.cnf.fused import tiles as fused_tiles


def test_tanh_is_accurate():
    values = np.concatenate(
        [np.linspace(-12, 12, 4000), np.linspace(-1e-2, 1e-2, 400), np.zeros(16)]
    ).astype(np.float32)
    values[-3:] = np.nan, np.inf, -np.inf
    found = np.empty_like(values)

    @fused_tiles.compiled
    def apply(source, target):
        for at in range(0, source.size, 16):
            fused_tiles.store(
                target, at, fused_tiles.tanh(fused_tiles.load(source, at))
            )

    apply(values, found)
    exact = np.tanh(values.astype(np.float64))
    np.testing.assert_allclose(found, exact, rtol=2e-7, atol=1e-37)
