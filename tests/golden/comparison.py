"""This file says whether two graph documents are equal up to renaming.

Nodes correspond by the order of their numbers, which both compilers draw in the order
of evaluation. Beyond that, only what has no meaning may differ: the order of sets and
maps, the numbers in generated names (dontcareN, accN, aN), the class of a sequence
(`["vector", 1, 2]` or `[1, 2]`), and the last bits of a double.
"""

import json
import math
import re
from typing import Any

_GENERATED = re.compile(r"(dontcare|acc|a)\d+")
_NUMBER = re.compile(r"\d+$")


def difference(ours: list[Any], theirs: list[Any]) -> str:
    """Return the first difference of two documents; empty if there is none."""
    names = [_in_order(d[1]["V"]) for d in (ours, theirs)]
    bases = [[_NUMBER.sub("", name) for name in side] for side in names]
    if bases[0] != bases[1]:
        return f"nodes: {names[0]} and {names[1]}"
    mine = _renamed(ours, dict(zip(names[0], names[1], strict=True)))
    if ours[0].keys() != theirs[0].keys():
        return f"functions: {list(ours[0])} and {list(theirs[0])}"
    for part in ("V", "A"):
        a, b = (_as_sets(d[1][part]) for d in (mine, theirs))
        if a != b:
            return f"{part}: {a} and {b}"
    for a, b, path in (
        (mine[0], theirs[0], "functions"),
        (mine[1]["P"], theirs[1]["P"], "P"),
        (mine[1]["Y"], theirs[1]["Y"], "Y"),
        (mine[2], theirs[2], "result"),
    ):
        found = _differ(a, b, path, {})
        if found:
            return found
    return ""


def _in_order(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: int(re.findall(r"\d+$", name)[0]))


def _renamed(document: Any, names: dict[str, str]) -> Any:
    if isinstance(document, list):
        return [_renamed(x, names) for x in document]
    if isinstance(document, dict):
        return {names.get(k, k): _renamed(v, names) for k, v in document.items()}
    return names.get(document, document) if isinstance(document, str) else document


def _as_sets(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: set(children) for key, children in part.items()}
    return set(part)


def _differ(a: Any, b: Any, path: str, local: dict[str, str]) -> str:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        found = (_differ(a[k], b[k], f"{path}.{k}", {}) for k in a)
        return next((text for text in found if text), "")
    if isinstance(a, list) and isinstance(b, list):
        a, b = _normal(a), _normal(b)
        if len(a) == len(b):
            local = local | _let_names(a, b)
            pairs = enumerate(zip(a, b, strict=True))
            found = (_differ(x, y, f"{path}[{i}]", local) for i, (x, y) in pairs)
            return next((text for text in found if text), "")
    elif isinstance(a, float) and isinstance(b, float):
        if math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12):
            return ""
    elif isinstance(a, str) and isinstance(b, str):
        mine, theirs = _GENERATED.fullmatch(a), _GENERATED.fullmatch(b)
        is_generated = mine and theirs and mine[1] == theirs[1]
        if a == b or (is_generated and local.get(a) == b):
            return ""
    elif type(a) is type(b) and a == b:
        return ""
    return f"{path}: {json.dumps(a)[:200]} and {json.dumps(b)[:200]}"


def _let_names(a: list[Any], b: list[Any]) -> dict[str, str]:
    """Return the name that a let of each side binds, ours to theirs."""
    if len(a) != 3 or a[0] != "let" or b[0] != "let":
        return {}
    return {a[1][0]: b[1][0]}


def _normal(items: list[Any]) -> list[Any]:
    if items[:1] == ["vector"]:
        return items[1:]
    if items[:1] == ["hash-map"] and len(items) % 2:
        pairs = sorted(zip(items[1::2], items[2::2], strict=True), key=repr)
        return ["hash-map", *(x for pair in pairs for x in pair)]
    return items
