"""This file takes sequences with unknown elements apart, joins and sorts them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from daphne_bridge.language.primitives import Seq

from ..values import Scalar, describe, kind_of, merged_kind, slot_of
from .applying import STRUCTURAL, NoValue, Primitives, Rule, need_numbers, structural

__all__ = ["SEQUENCES"]

Value = Any


def _sort(p: Primitives, arguments: tuple[Value, ...]) -> Value:
    (collection,) = arguments
    if not isinstance(collection, tuple):
        raise NoValue(f"a collection is needed, not {describe(collection)}")
    need_numbers(collection)
    kind = merged_kind([k for item in collection if (k := kind_of(item))])
    bundle = p.dag.emit("bundle", [slot_of(p.dag, item) for item in collection])
    return Seq(
        Scalar(p.dag.emit("order statistic", (bundle,), position), kind)
        for position in range(len(collection))
    )


SEQUENCES: Mapping[str, Rule] = MappingProxyType(
    {name: structural(name) for name in STRUCTURAL}
    | {
        "sort": _sort,
    }
)
