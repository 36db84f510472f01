"""This file says where the stages of a solve lie in time, and what they weigh.

Stage j of all 4 N stages lies at place (j + 1) // 2 of the 2 N + 1 times: one stage at
either end, two at each place between.
"""

import numpy as np

from ...kernels.tiles import compiled
from .arrays import Tables

__all__ = ["place_weight", "stage_weight", "stages_of", "step_of"]


@compiled
def step_of(tab: Tables, number: int, num_steps: int, sign: int) -> np.float32:
    """Signed width of a step, counted along the path."""
    left = 2 * (number if sign > 0 else num_steps - 1 - number)
    width: np.float32 = tab.times[left + 2] - tab.times[left]
    return width * np.float32(sign)


@compiled
def stage_weight(tab: Tables, j: int, num_steps: int, sign: int) -> np.float32:
    """Runge-Kutta weight of stage j, with the path's sign."""
    step: np.float32 = step_of(tab, j // 4, num_steps, sign)
    return step / np.float32(3.0 if j % 4 == 1 or j % 4 == 2 else 6.0)


@compiled
def stages_of(place: int, num_steps: int) -> tuple[int, int]:
    """First and last stage of a place."""
    return max(2 * place - 1, 0), min(2 * place, 4 * num_steps - 1)


@compiled
def place_weight(tab: Tables, place: int, num_steps: int, sign: int) -> np.float32:
    """Weight of a place in the quadrature: that of its stages."""
    first, last = stages_of(place, num_steps)
    weight = np.float32(0.0)
    for j in range(first, last + 1):
        weight += stage_weight(tab, j, num_steps, sign)
    return weight
