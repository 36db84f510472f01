"""This file takes a term apart into linear parts, and what is computed from these."""

from collections.abc import Mapping

from ..linear_gaussian.forms import Readers
from ..model.dag import Dag

__all__ = ["predictors_of", "separated"]


def predictors_of(readers: Readers, term: int, most: int) -> tuple[int, ...] | None:
    """Return the largest linear parts of a term; None if there are more than `most`.

    Args:
        readers: Of the latents.
        term: A slot.
        most: Parts.
    """
    found: list[int] = []
    seen: set[int] = set()
    stack = [term]
    while stack:
        slot = stack.pop()
        if slot in seen or not readers.bits[slot]:
            continue
        seen.add(slot)
        if not readers.not_linear([slot]):
            found.append(slot)
            if len(found) > most:
                return None
        else:
            stack.extend(readers.dag[slot].inputs)
    return tuple(found)


def separated(dag: Dag, term: int, given: Mapping[int, int]) -> int:
    """Return a term with other slots in place of some of its parts."""
    made = dict(given)
    order: list[int] = []
    seen: set[int] = set()
    stack = [term]
    while stack:
        slot = stack.pop()
        if slot in seen or slot in given:
            continue
        seen.add(slot)
        order.append(slot)
        stack.extend(dag[slot].inputs)
    for slot in sorted(order):
        operation = dag[slot]
        inputs = [made.get(part, part) for part in operation.inputs]
        if operation.name == "affine" and inputs != [*operation.inputs]:
            factors, bias = operation.attribute
            made[slot] = dag.affine(zip(inputs, factors, strict=True), bias)
        elif inputs != [*operation.inputs]:
            made[slot] = dag.emit(operation.name, inputs, operation.attribute)
    return made.get(term, term)
