"""This file says what is wrong, where, and what was expected instead.

Every error of the package carries one or more `Problem`s, so that a document or a
program is checked to its end and reported in one go. A problem prints as

    where: what is wrong; expected ...; got ...

where `where` is `file:line:column` for a program and `file: $.json.path` for a
document.
"""

from dataclasses import dataclass
from typing import Self

__all__ = [
    "BridgeError",
    "CompileError",
    "DaphneError",
    "DocumentError",
    "GraphError",
    "InversionError",
    "Problem",
    "ReadError",
    "printable",
    "shortened",
]


def printable(text: str) -> str:
    """Return a line of text with its control characters as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, limit: int = 60) -> str:
    """Return a text for a message, cut at `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: Place in the input, `file:line:column` or a JSON path.
        what: What is wrong, one clause.
        expected: What would have been right; empty if there is nothing to say.
        got: What was there; empty if there is nothing to say.
        context: Lines of the input to show under the sentence (a caret line, say).
    """

    where: str
    what: str
    expected: str = ""
    got: str = ""
    context: str = ""

    def __str__(self) -> str:
        """Return the problem as one sentence, with its context underneath."""
        sentence = f"{self.where}: {self.what}"
        if self.expected:
            sentence += f"; expected {self.expected}"
        if self.got:
            sentence += f"; got {self.got}"
        sentence = printable(sentence)
        return f"{sentence}\n{self.context}" if self.context else sentence


class BridgeError(Exception):
    """Bad input, described by one or more problems.

    Attributes:
        problems: Everything that was found wrong, in the order of the input.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems: tuple[Problem, ...] = problems

    @classmethod
    def at(cls, where: str, what: str, expected: str = "", got: str = "") -> Self:
        """Return an error of one problem; see `Problem`.

        Example:
            >>> print(BridgeError.at("a.json: $.V", "not a list", "a list", "3"))
            a.json: $.V: not a list; expected a list; got 3
        """
        return cls(Problem(where, what, expected, got))

    def __str__(self) -> str:
        """Return one line per problem."""
        return "\n".join(str(problem) for problem in self.problems)


class ReadError(BridgeError):
    """The program's text cannot be read as forms."""


class CompileError(BridgeError):
    """The program's forms do not describe a graphical model."""


class DocumentError(BridgeError):
    """The JSON is not a graph document."""


class GraphError(BridgeError):
    """The document does not describe an acyclic graphical model."""


class InversionError(BridgeError):
    """The graph cannot be inverted."""


class DaphneError(BridgeError):
    """The original Daphne could not be run, or failed."""
