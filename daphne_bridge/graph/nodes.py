"""This file says what a random variable of a checked model is."""

from dataclasses import dataclass

from ..language.families import FAMILIES, Family
from .expression import Call, Expression, Value

__all__ = ["Node", "distributions_in", "families_of"]


@dataclass(frozen=True, slots=True)
class Node:
    """A random variable.

    Attributes:
        name: Its name in the document, `sample5`.
        label: The program's own name, or `name` where that is not known.
        distribution: The link function: a call of a family, or an `if` or `get` that
            selects among such calls.
        condition: When the observe counts; None if always, and for latents.
        is_observed: Whether its value is data.
        observation: The document's data; None for latents.
        parents: Names of the nodes that its link function reads, in order of first
            mention.
    """

    name: str
    label: str
    distribution: Expression
    condition: Expression | None
    is_observed: bool
    observation: Value
    parents: tuple[str, ...]

    @property
    def families(self) -> tuple[Family, ...]:
        """The families that its distribution may belong to."""
        return families_of(self.distribution)

    @property
    def is_discrete(self) -> bool:
        """Whether any of its families has a mass function."""
        return any(family.is_discrete for family in self.families)

    @property
    def is_mixed(self) -> bool:
        """Whether a branch decides if values are counted or measured."""
        return len({family.is_discrete for family in self.families}) > 1


def families_of(distribution: Expression) -> tuple[Family, ...]:
    """Return the families that an expression of a distribution selects among."""
    calls = distributions_in(distribution)
    return tuple(dict.fromkeys(FAMILIES[call.head] for call in calls))


def distributions_in(distribution: Expression) -> list[Call]:
    """Return the calls of families that such an expression selects among."""
    found: list[Call] = []
    stack = [distribution]
    while stack:
        current = stack.pop()
        if not isinstance(current, Call):
            continue
        if current.head in FAMILIES:
            found.append(current)
        elif current.head == "if":
            stack.extend(reversed(current.arguments[1:]))
        elif current.arguments and isinstance(current.arguments[0], Call):
            stack.extend(reversed(current.arguments[0].arguments))
    return found
