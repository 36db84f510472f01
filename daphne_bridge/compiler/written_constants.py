"""This file says what a constant is once it stands in the program's text."""

from typing import Any

from ..language.primitives import HashMap, Seq
from ..language.primitives.values import ListSeq
from .constant_size import constant_size
from .terms import MapTerm, SequenceTerm, Term

__all__ = ["written"]


def written(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Return a constant as it is once it stands in the program's text.

    Daphne writes the value of a name into every place of it. There a sequence looks
    like a call, so that core functions do not compute with it any more; collection
    functions look into one made by `rest` or `concat`, not into one made by `list`.

    Args:
        value: A constant.
        done: What was returned before, by identity.
    """
    if not isinstance(value, (tuple, HashMap)) or not value:
        return value
    if id(value) in done:
        return done[id(value)][1]
    work = [value]
    while work:
        item = work[-1]
        if id(item) in done:
            work.pop()
            continue
        parts = (
            [x for pair in item.pairs() for x in pair]
            if isinstance(item, HashMap)
            else item
        )
        inner = [x for x in parts if isinstance(x, (tuple, HashMap)) and x]
        missing = [x for x in inner if id(x) not in done]
        if missing:
            work.extend(missing)
            continue
        work.pop()
        done[id(item)] = (item, _written_one(item, inner, done))
    return done[id(value)][1]


def _written_one(item: Any, inner: list[Any], done: dict[int, tuple[Any, Any]]) -> Any:
    is_seq = isinstance(item, Seq)
    if not is_seq and not any(isinstance(done[id(x)][1], Term) for x in inner):
        return item

    def part(value: Any) -> Any:
        return done[id(value)][1] if id(value) in done else value

    if isinstance(item, HashMap):
        return MapTerm(HashMap((k, part(v)) for k, v in item.pairs()))
    return SequenceTerm(
        tuple(map(part, item)),
        is_vector=not is_seq,
        is_opaque=True,
        size=constant_size(item),
        is_list=isinstance(item, ListSeq),
        settled=item,
    )
