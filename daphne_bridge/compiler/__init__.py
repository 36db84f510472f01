"""This file turns program text into a graph document, pass by pass, as Daphne does.

    text --read--> forms --analyse--> variables and terms --document--> JSON triple

`analysis` walks the forms with the rules of `substitution`, `partial_evaluation` and
`symbolic_simplify`; `desugar` writes forms in the core language for the document's
functions and for `--action desugar`; `hoppl`, `addresses` and `continuations` write it
for evaluators of the higher-order language. Nothing of the host language is ever run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..building import building
from ..errors import CompileError, ReadError
from ..graph.deep_json import is_object_text
from .addresses import with_addresses
from .analysis import analyse
from .continuations import with_continuations
from .data import constants, parse_data
from .desugar import desugar
from .edn import show_edn
from .emission import document, form_json
from .factor_graph import factor_graph_json
from .forms import Form, Span
from .hidden_names import hidden_functions
from .hoppl import Fresh, function, hoppl
from .meaning import Analysis, Limits
from .reader import read
from .source import Source

__all__ = [
    "HOPPL_ACTIONS",
    "Compilation",
    "Limits",
    "compile_program",
    "desugar_program",
    "factor_graph",
    "hoppl_program",
    "parse_data",
    "show_edn",
]


HOPPL_ACTIONS = ("desugar-hoppl", "desugar-hoppl-noaddress", "desugar-hoppl-cps")
"""What `hoppl_program` writes, as Daphne calls it."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled program.

    Attributes:
        document: Daphne's JSON triple. Lists may be shared; do not change them.
        labels: The program's own name of each node (its node name if it has none).
        positions: `file:line:column` of the site of each node.
    """

    document: list[Any]
    labels: Mapping[str, str]
    positions: Mapping[str, str]


@building()
def compile_program(
    text: str,
    filename: str,
    data: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Compilation:
    """Return the graph document of a program.

    Args:
        text: The program.
        filename: What messages call it.
        data: JSON values for names that the program uses freely (`parse_data`).
        limits: How far the program may be unrolled; the defaults of `Limits`.

    Raises:
        ReadError: The text is not a sequence of forms.
        CompileError: The forms do not describe a graphical model.

    Example:
        >>> compile_program("(sample (normal 0 1))", "one.daphne").document[2]
        'sample0'
    """
    source, analysis = _analysed(text, filename, data, limits)
    triple = _guarded(source, lambda: document(analysis, source))
    positions = {v.name: source.where(v.span) for v in analysis.variables}
    return Compilation(triple, _labels(analysis), positions)


def desugar_program(text: str, filename: str) -> list[Any]:
    """Return every form of a program in the core language, as JSON.

    Raises:
        ReadError: The text is not a sequence of forms.
        CompileError: A form has the wrong parts.
    """
    source = Source(text, filename)
    numbers = iter(range(1 << 60))
    return [
        form_json(_guarded(source, lambda form=form: desugar(form, source, numbers)))
        for form in _forms(text, filename)
    ]


def hoppl_program(text: str, filename: str, action: str = "desugar-hoppl") -> Any:
    """Return a program as one expression of functions, as JSON.

    Args:
        text: The program; it may use `fn` and recursion as it likes.
        filename: What messages call it.
        action: One of `HOPPL_ACTIONS`: a function of the address of each call, the bare
            expression, or a function of addresses and of what is done with the value.

    Raises:
        ReadError: The text is not a sequence of forms.
        CompileError: A form has the wrong parts.

    Example:
        >>> hoppl_program("(let [x 1] (+ x 2))", "p", "desugar-hoppl-noaddress")
        [['fn', ['x'], ['+', 'x', 2]], 1]
    """
    source, forms = Source(text, filename), _forms(text, filename)
    if not forms:
        raise source.compile_error(Span(1, 1), "the program is empty", "an expression")
    fresh = Fresh(forms)
    address, then = fresh.unless_taken("alpha"), fresh.unless_taken("k-return")
    form = _guarded(source, lambda: hoppl(forms, source, fresh))
    if action == "desugar-hoppl-noaddress":
        return form_json(form)
    form = with_addresses(form, address, fresh)
    if action == "desugar-hoppl":
        return form_json(function([address], form))
    form = with_continuations(form, then, fresh)
    return form_json(function([address, then], form))


def factor_graph(
    text: str,
    filename: str,
    data: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Return the factor graph of a program as JSON (`factor_graph_json`).

    Raises:
        ReadError: The text is not a sequence of forms.
        CompileError: The forms do not describe a graphical model.
    """
    source, analysis = _analysed(text, filename, data, limits)
    graph: dict[str, Any] = _guarded(
        source, lambda: factor_graph_json(analysis, source)
    )
    return graph


def _analysed(
    text: str, filename: str, data: Mapping[str, Any] | None, limits: Limits | None
) -> tuple[Source, Analysis]:
    source = Source(text, filename)
    forms = _forms(text, filename)
    values = constants(data or {})
    try:
        return source, _guarded(source, lambda: analyse(forms, source, values, limits))
    except CompileError as error:
        hidden = hidden_functions(forms, values, source, error.problems)
        raise CompileError(*hidden, *error.problems) from None


def _forms(text: str, filename: str) -> tuple[Form, ...]:
    """Return the forms of a program; JSON, which often reads as forms too, is none."""
    if is_object_text(text):
        raise ReadError.at(
            filename,
            "this is JSON, not a program; a graph document is compiled already",
            "a program such as (let [x (sample (normal 0 1))] x)",
        )
    return read(text, filename)


def _guarded(source: Source, work: Any) -> Any:
    """Return `work()`, and say so if a constant is nested beyond what can be computed.

    The passes need no recursion; equality and map keys of constants do, a little.
    """
    try:
        return work()
    except RecursionError:
        raise CompileError.at(
            f"{source.filename}:1:1",
            "a constant is nested too deeply",
            "collections at most some hundred levels deep",
        ) from None


def _labels(analysis: Analysis) -> dict[str, str]:
    """Return each node's own name; several of one name are numbered from 0."""
    own = {v.name: v.label or v.site or v.name for v in analysis.variables}
    counts: dict[str, int] = {}
    for label in own.values():
        counts[label] = counts.get(label, 0) + 1
    labels: dict[str, str] = {}
    seen: dict[str, int] = {}
    for name, label in own.items():
        index = seen.get(label, 0)
        seen[label] = index + 1
        labels[name] = label if counts[label] == 1 else f"{label}[{index}]"
    return labels
