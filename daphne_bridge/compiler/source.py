"""This file owns `Source`: a program's text, for messages that show where."""

from dataclasses import dataclass, field

from ..errors import CompileError, Problem, ReadError
from .forms import Span

__all__ = ["Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """A program's text, for messages that show where.

    Attributes:
        text: The whole text.
        filename: What to call it.
        lines: The text's lines.
    """

    text: str
    filename: str
    lines: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", tuple(self.text.split("\n")))

    def where(self, span: Span) -> str:
        """Return `file:line:column`."""
        return f"{self.filename}:{max(1, span.line)}:{max(1, span.column)}"

    def problem(
        self, span: Span, what: str, expected: str = "", got: str = ""
    ) -> Problem:
        """Return a problem at `span`, with the line and a caret under it."""
        index = max(0, min(span.line, len(self.lines)) - 1)
        line = self.lines[index].rstrip("\r").replace("\t", " ")
        column = max(1, span.column)
        if len(line) > 120:
            start = max(0, column - 60)
            line, column = line[start : start + 120], column - start
        line = "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line
        )
        return Problem(
            self.where(span), what, expected, got, f"  {line}\n  {' ' * (column - 1)}^"
        )

    def compile_error(
        self, span: Span, what: str, expected: str = "", got: str = ""
    ) -> CompileError:
        """Return a compile error with one problem at `span`."""
        return CompileError(self.problem(span, what, expected, got))

    def read_error(
        self, span: Span, what: str, expected: str = "", got: str = ""
    ) -> ReadError:
        """Return a read error with one problem at `span`."""
        return ReadError(self.problem(span, what, expected, got))
