"""This file keeps what stands for each name: substitution that cannot capture.

Where Daphne writes a value into every place of a name, the compiler carries the pair
(name, value) and looks it up at the place. A value is closed (it holds nodes and
constants, no names of the program), so that no name of it can be captured, and a name
stands for the innermost binding around it (lexical scope). A function sees its
parameters and the program's data, not the names around its call.

References:
    Barendregt, "The Lambda Calculus" (1984), section 2.1 (the variable convention).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Binding", "Scope"]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a name stands for.

    Attributes:
        value: The compile-time value.
        is_late: Whether Daphne would still have the bare name when it simplifies the
            body around it: a random value, bound anywhere but first.
    """

    value: Any
    is_late: bool = False


class Scope:
    """The names that can be seen at one place; changes as the analysis moves on."""

    def __init__(self, names: Mapping[str, Binding]) -> None:
        self._names = dict(names)

    def look_up(self, name: str) -> Binding | None:
        """Return what `name` stands for, or None."""
        return self._names.get(name)

    def enter(self, name: str, binding: Binding) -> Binding | None:
        """Return what `name` stood for before it stands for `binding`."""
        before = self._names.get(name)
        self._names[name] = binding
        return before

    def leave(self, entered: Iterable[tuple[str, Binding | None]]) -> None:
        """Forget bindings, given the names and what `enter` returned, newest first."""
        for name, before in entered:
            if before is None:
                del self._names[name]
            else:
                self._names[name] = before

    def snapshot(self) -> Mapping[str, Binding]:
        """Return what the names stand for now."""
        return dict(self._names)

    def names(self) -> frozenset[str]:
        """Return the names that stand for something."""
        return frozenset(self._names)
