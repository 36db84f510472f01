"""This file turns program text into forms.

The notation is edn, which is less than Clojure's own: no `#( )`, no regular
expressions, no metadata. Beyond edn, `'form` is read as `(quote form)`, which is what a
Clojure programmer means by it. Every problem has a line, a column and a caret.

References:
    Extensible data notation, https://github.com/edn-format/edn
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import isinf

from ..errors import ReadError, shortened
from ..language.primitives import BigInt, Keyword, Value
from .forms import Compound, Form, Literal, Span, Symbol, show
from .source import Source

__all__ = ["read"]

_MAX_DIGITS = 2_400

_TOKEN = re.compile(
    r"""
    (?P<space>[\s,]+|;[^\n]*)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<discard>\#_)
  | (?P<quote>')
  | (?P<hash>\#.?)
  | (?P<character>\\[^\s,;()\[\]{}"]*)
  | (?P<atom>[^\s,;()\[\]{}"\\`~@^\#][^\s,;()\[\]{}"\\`~@^]*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_INTEGER = re.compile(
    r"([-+]?)(?:0[xX]([0-9A-Fa-f]+)|0([0-7]+)|([1-9]\d?)[rR]([0-9A-Za-z]+)"
    r"|(0|[1-9]\d*))(N?)"
)
_RATIO = re.compile(r"([-+]?\d+)/(\d+)")
_FLOAT = re.compile(r"(?=.*[.eEM])([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(M?)")
_STRING_PART = re.compile(r"\\u([0-9A-Fa-f]{4})|\\(.)", re.DOTALL)
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "b": "\b", "f": "\f"}
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_KIND = {"(": "list", "[": "vector", "{": "map"}
_NAMED = {"nil": None, "true": True, "false": False}
_HASH = {
    "#(": "anonymous functions #( ) are not part of the language",
    '#"': "regular expressions are not part of the language",
    "#{": "sets are not part of the language",
    "##": "infinite values and NaN are not part of the language",
}


@dataclass(slots=True)
class _Open:
    """A bracket, discard or quote that waits for its end."""

    token: str
    span: Span
    items: list[Form] = field(default_factory=list)


def read(text: str, filename: str) -> tuple[Form, ...]:
    """Return the forms of a program.

    Args:
        text: The program.
        filename: What messages call it.

    Raises:
        ReadError: The text is not a sequence of forms.
    """
    source = Source(text, filename)
    top = _Open("", Span(1, 1))
    stack = [top]
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        span = Span(line, match.start() - line_start + 1)
        if newlines := token.count("\n"):
            line += newlines
            line_start = match.start() + token.rindex("\n") + 1
        match kind:
            case "space":
                continue
            case "open" | "discard" | "quote":
                stack.append(_Open(token, span))
                continue
            case "close":
                form: Form = _close(stack, token, span, source)
            case "string":
                form = Literal(_string(token, span, source), span)
            case "atom":
                form = _atom(token, span, source)
            case _:
                raise _unreadable(kind, token, span, source)
        _deliver(stack, form)
    if len(stack) > 1:
        waiting = stack[-1]
        expected = _CLOSING.get(waiting.token, "a form")
        raise source.read_error(
            waiting.span,
            f"{waiting.token} is not closed",
            expected=f"{expected} after it",
            got="the end of the text",
        )
    return tuple(top.items)


def _deliver(stack: list[_Open], form: Form) -> None:
    while stack[-1].token in ("#_", "'"):
        waiting = stack.pop()
        if waiting.token == "#_":
            return
        quote = Symbol("quote", waiting.span)
        form = Compound("list", (quote, form), waiting.span)
    stack[-1].items.append(form)


def _close(stack: list[_Open], token: str, span: Span, source: Source) -> Form:
    waiting = stack[-1]
    if not waiting.token:
        raise source.read_error(
            span,
            f"{token} closes nothing",
            expected="a form or the end of the text",
            got=token,
        )
    if waiting.token in ("#_", "'"):
        raise source.read_error(
            span, f"{waiting.token} has no form", expected="a form after it", got=token
        )
    if _CLOSING[waiting.token] != token:
        opened = f"{waiting.span.line}:{waiting.span.column}"
        raise source.read_error(
            span,
            f"the bracket does not match the {waiting.token} opened at {opened}",
            expected=_CLOSING[waiting.token],
            got=token,
        )
    stack.pop()
    if waiting.token == "{":
        _check_map(waiting, source)
    kind = _KIND[waiting.token]
    return Compound(kind, tuple(waiting.items), waiting.span)  # type: ignore[arg-type]


def _check_map(waiting: _Open, source: Source) -> None:
    keys = waiting.items[::2]
    if len(waiting.items) % 2:
        raise source.read_error(
            keys[-1].span,
            "a map has a key without a value",
            expected="an even number of forms",
            got=str(len(waiting.items)),
        )
    seen: set[str] = set()
    for key in keys:
        text = show(key)
        if text in seen:
            raise source.read_error(
                key.span,
                "a map has the same key twice",
                expected="different keys",
                got=shortened(text, 40),
            )
        seen.add(text)


def _unreadable(kind: str | None, token: str, span: Span, source: Source) -> ReadError:
    if kind == "hash":
        what = _HASH.get(token, "tagged values are not part of the language")
        return source.read_error(span, what, expected="a form", got=token)
    if kind == "character":
        return source.read_error(
            span,
            "characters are not part of the language",
            expected='a string such as "a"',
            got=token,
        )
    if token == '"':
        return source.read_error(
            span, "a string is not closed", expected='"', got="the end of the text"
        )
    return source.read_error(
        span, "this character starts no form", expected="a form", got=repr(token)
    )


def _string(token: str, span: Span, source: Source) -> str:
    def part(match: re.Match[str]) -> str:
        code, letter = match.groups()
        if code is not None:
            return chr(int(code, 16))
        if letter not in _ESCAPES:
            raise source.read_error(
                span,
                "a string has an unknown escape",
                expected=r"\t \r \n \\ \" \b \f or \uXXXX",
                got=f"\\{letter}",
            )
        return _ESCAPES[letter]

    text = _STRING_PART.sub(part, token[1:-1])
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise source.read_error(
            span,
            "a string has half of a surrogate pair",
            expected="both halves or none",
            got=ascii(text)[:40],
        ) from None


def _atom(token: str, span: Span, source: Source) -> Form:
    if token in _NAMED:
        return Literal(_NAMED[token], span)
    if token[0].isdigit() or (token[0] in "+-" and token[1:2].isdigit()):
        return Literal(_number(token, span, source), span)
    if token[0] == ":":
        if len(token) == 1 or token[1] == ":" or token[-1] in ":/":
            raise source.read_error(
                span, "a keyword has no name", expected="a name such as :a", got=token
            )
        return Literal(Keyword(token[1:]), span)
    return Symbol(token, span)


def _number(token: str, span: Span, source: Source) -> Value:
    if len(token) <= _MAX_DIGITS:
        if match := _INTEGER.fullmatch(token):
            integer = _integer(match)
            if integer is not None:
                return integer
        elif match := _RATIO.fullmatch(token):
            if int(match[2]):
                ratio = Fraction(int(match[1]), int(match[2]))
                return ratio if ratio.denominator != 1 else ratio.numerator
        elif match := _FLOAT.fullmatch(token):
            value = _decimal(match[1]) if match[2] else float(match[1])
            if value is not None and not (isinstance(value, float) and isinf(value)):
                return value
    raise source.read_error(
        span,
        "this is not a number",
        expected="an integer, ratio, double or decimal",
        got=shortened(token, 40),
    )


def _integer(match: re.Match[str]) -> int | None:
    sign, hexadecimal, octal, base, digits, plain, big = match.groups()
    try:
        if hexadecimal:
            value = int(hexadecimal, 16)
        elif octal:
            value = int(octal, 8)
        elif base:
            value = int(digits, int(base))
        else:
            value = int(plain)
    except ValueError:
        return None
    value = -value if sign == "-" else value
    return BigInt(value) if big or not -(1 << 63) <= value < 1 << 63 else value


def _decimal(digits: str) -> Decimal | None:
    try:
        value = Decimal(digits)
    except InvalidOperation:
        return None
    return value if abs(value.adjusted()) <= _MAX_DIGITS else None
