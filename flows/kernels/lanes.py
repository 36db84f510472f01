"""This file sorts rows by direction into packs of lanes, and back.

A row has a lane to itself, so a row's result does not depend on its batch mates. Lanes
without a row hold zeros.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tiles import LANES

__all__ = [
    "MAX_GROUPS",
    "Floats",
    "Integers",
    "Pack",
    "aligned",
    "from_lanes",
    "make_packs",
    "to_lanes",
]

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MAX_GROUPS = 8
"""Groups of 16 rows in a pack: a pack's layers stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows of one direction that are solved together."""

    rows: Integers
    sign: int
    first_group: int
    groups: int


def make_packs(signs: Floats) -> list[Pack]:
    """Packs of nearly equal sizes, rows of sign +1 first."""
    packs: list[Pack] = []
    first = 0
    for sign in (1, -1):
        rows = np.flatnonzero(signs == sign)
        groups = -(-rows.size // LANES)
        count = -(-groups // MAX_GROUPS)
        done = 0
        for number in range(count):
            size = (groups - done) // (count - number)
            part = rows[done * LANES : (done + size) * LANES]
            packs.append(Pack(part, sign, first, size))
            done += size
            first += size
    return packs


def to_lanes(packs: list[Pack], rows: Floats) -> Floats:
    """[row, feature] -> per pack [feature, group, lane], missing rows zero."""
    features = rows.shape[1]
    total = sum(pack.groups for pack in packs) * LANES * features
    lanes = aligned(total)
    lanes[:] = 0.0
    for pack in packs:
        view = _pack_view(lanes, pack, features)
        view[:, : pack.rows.size] = rows[pack.rows].T
    return lanes


def from_lanes(packs: list[Pack], lanes: Floats, rows: int, features: int) -> Floats:
    """Inverse of `to_lanes`."""
    result = np.empty((rows, features), dtype=np.float32)
    for pack in packs:
        view = _pack_view(lanes, pack, features)
        result[pack.rows] = view[:, : pack.rows.size].T
    return result


def _pack_view(lanes: Floats, pack: Pack, features: int) -> Floats:
    start = pack.first_group * LANES * features
    stop = start + pack.groups * LANES * features
    return lanes[start:stop].reshape(features, pack.groups * LANES)


def aligned(size: int) -> Floats:
    """Uninitialised numbers that start on a cache line."""
    line = 4 * LANES
    whole = np.empty(size * 4 + line, dtype=np.uint8)
    shift = -whole.ctypes.data % line
    return whole[shift : shift + 4 * size].view(np.float32)
