"""This file reads and writes an inverse as JSON.

The parents stand by name, `"parents": {"z1": ["z0", "x0"], ...}`, while there are at
most `NAMED_EDGES` edges. Above that they stand as runs of positions,
`"parent_runs": ["", "0 40-47", ...]`, one string per latent in sampling order, where
position i means the i-th name of latents followed by observed, from 0. A file with
millions of edges then takes kilobytes where parents are neighbours in that order. The
file names the digest of its graph, so that it cannot be used with another model.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DocumentError, Problem, shortened
from ..graph.deep_json import dumps
from ..graph.document import parse_json, read_text, schema_validator, write_text
from .elimination_plans import Plan
from .elimination_search import Candidate
from .nami import Inverse, ParentSets

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

__all__ = [
    "NAMED_EDGES",
    "dump_inverse",
    "format_inverse",
    "load_inverse",
    "parse_inverse",
]

NAMED_EDGES = 2_000

_FORMAT = "daphne-bridge inverse"
_VERSION = 1
_MOST_PROBLEMS = 20


@cache
def _validator() -> "Draft202012Validator":
    return schema_validator(__package__, "inverse.schema.json")


def dump_inverse(inverse: Inverse, path: str | os.PathLike[str]) -> None:
    """Write an inverse to a file, whole or not at all.

    Raises:
        DocumentError: If the place cannot be written.
    """
    write_text(Path(path), format_inverse(inverse))


def load_inverse(path: str | os.PathLike[str], *, digest: str | None = None) -> Inverse:
    """Return the inverse in a file.

    Args:
        path: The file.
        digest: Digest of the model it must belong to; None takes any.

    Raises:
        DocumentError: If the file cannot be read, holds no inverse, or one of another
            model.
    """
    text = read_text(Path(path), "an inverse")
    return parse_inverse(text, str(path), digest=digest)


def format_inverse(inverse: Inverse) -> str:
    """Return an inverse as JSON text, one line per latent; same inverse, same text."""
    candidates = [
        dumps(
            {
                "plan": _plan_json(candidate.plan),
                "edges": candidate.edges,
                "removable": candidate.removable,
            }
        )
        for candidate in inverse.candidates
    ]
    if inverse.num_edges <= NAMED_EDGES:
        key = "parents"
        rows = [
            f"{dumps(latent)}: {dumps(list(above))}"
            for latent, above in inverse.parents.items()
        ]
        opening, closing = "{", "}"
    else:
        key = "parent_runs"
        rows = [dumps(" ".join(_runs(nodes))) for nodes in inverse.parents.sets]
        opening, closing = "[", "]"
    labels = dict(sorted(inverse.labels.items()))
    fields = [
        f'"format": {dumps(_FORMAT)}',
        f'"version": {_VERSION}',
        f'"graph": {dumps(inverse.digest)}',
        f'"plan": {dumps(_plan_json(inverse.candidate.plan))}',
        f'"edges": {inverse.num_edges}',
        f'"candidates": {_lines(candidates, "[", "]")}',
        f'"latents": {dumps(list(inverse.latents))}',
        f'"observed": {dumps(list(inverse.observed))}',
        f'"labels": {dumps(labels)}',
        f'"{key}": {_lines(rows, opening, closing)}',
    ]
    return "{" + ",\n ".join(fields) + "}\n"


def _lines(rows: Sequence[str], opening: str, closing: str) -> str:
    if not rows:
        return opening + closing
    return f"{opening}\n  " + ",\n  ".join(rows) + closing


def _plan_json(plan: Plan) -> list[str]:
    return [plan.mode, plan.rule, plan.barren]


def _runs(nodes: int) -> Iterator[str]:
    """Yield the runs of ones in a bit set, lowest first."""
    start = 0
    while nodes:
        gap = (nodes & -nodes).bit_length() - 1
        nodes >>= gap
        length = (~nodes & (nodes + 1)).bit_length() - 1
        nodes >>= length
        first = start + gap
        start = first + length
        yield str(first) if length == 1 else f"{first}-{start - 1}"


def parse_inverse(
    text: str, source: str = "<inverse>", *, digest: str | None = None
) -> Inverse:
    """Return the inverse written in `text`.

    Args:
        text: What `format_inverse` returns.
        source: File name for messages.
        digest: Digest of the model it must belong to; None takes any.

    Raises:
        DocumentError: If it is not JSON, not of the format, contradicts itself, or
            belongs to another model.
    """
    data = parse_json(text, source)
    _check_format(data, source)
    latents, observed = data["latents"], data["observed"]
    problems = _name_problems(data, source)
    if not problems:
        reader = _ParentReader(latents, observed, source)
        if "parents" in data:
            sets = reader.read_names(data["parents"])
        else:
            sets = reader.read_runs(data["parent_runs"])
        problems = reader.problems
    if not problems:
        problems = _count_problems(data, sets, source)
    if digest is not None and data["graph"] != digest:
        problems.append(
            Problem(
                f"{source}: $.graph",
                "this is the inverse of another model",
                digest,
                data["graph"],
            )
        )
    if problems:
        raise DocumentError(*problems[:_MOST_PROBLEMS])
    candidates = tuple(
        Candidate(Plan(*entry["plan"]), entry["edges"], entry["removable"])
        for entry in data["candidates"]
    )
    plan = Plan(*data["plan"])
    return Inverse(
        ParentSets(latents, observed, sets),
        next(candidate for candidate in candidates if candidate.plan == plan),
        candidates,
        data["graph"],
        data.get("labels", {}),
    )


def _check_format(data: Any, source: str) -> None:
    """Raise DocumentError unless the value has the shape of an inverse."""
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        got = data.get("format", "no format") if isinstance(data, dict) else "no object"
        raise DocumentError.at(
            f"{source}: $.format", "this is not an inverse", _FORMAT, _short(got)
        )
    if data.get("version") != _VERSION:
        raise DocumentError.at(
            f"{source}: $.version",
            "another version of the format",
            str(_VERSION),
            _short(data.get("version")),
        )
    if ("parents" in data) == ("parent_runs" in data):
        raise DocumentError.at(
            f"{source}: $",
            "the parents do not stand here exactly once",
            "either parents or parent_runs",
            "both" if "parents" in data else "neither",
        )
    problems = [
        Problem(f"{source}: {violation.json_path}", _short(violation.message))
        for violation in _validator().iter_errors(data)
    ]
    if problems:
        raise DocumentError(*problems[:_MOST_PROBLEMS])


def _short(value: object) -> str:
    return shortened(str(value), 160)


def _name_problems(data: Mapping[str, Any], source: str) -> list[Problem]:
    both = sorted(set(data["latents"]) & set(data["observed"]))
    known = {*data["latents"], *data["observed"]}
    problems = [
        Problem(f"{source}: $.observed", "also a latent", "one kind per node", name)
        for name in both
    ]
    problems += [
        Problem(f"{source}: $.labels", "unknown node", "a latent or observed", name)
        for name in data.get("labels", {})
        if name not in known
    ]
    return problems


def _count_problems(
    data: Mapping[str, Any], sets: Sequence[int], source: str
) -> list[Problem]:
    count = sum(nodes.bit_count() for nodes in sets)
    problems = []
    if count != data["edges"]:
        problems.append(
            Problem(
                f"{source}: $.edges",
                "not the number of edges in the file",
                str(count),
                str(data["edges"]),
            )
        )
    found = [entry for entry in data["candidates"] if entry["plan"] == data["plan"]]
    if len(found) != 1 or found[0]["edges"] != data["edges"]:
        problems.append(
            Problem(
                f"{source}: $.candidates",
                "the chosen plan does not stand here once with its number of edges",
                f"{data['plan']} with {data['edges']} edges",
                str([entry["edges"] for entry in found]),
            )
        )
    return problems


class _ParentReader:
    """Reads parents by name or by position, and collects what is wrong.

    Attributes:
        problems: What was found so far.
    """

    def __init__(
        self, latents: Sequence[str], observed: Sequence[str], source: str
    ) -> None:
        self.problems: list[Problem] = []
        self._latents = latents
        self._size = len(latents) + len(observed)
        self._places = {name: i for i, name in enumerate([*latents, *observed])}
        self._source = source

    def read_names(self, parents: Mapping[str, Sequence[str]]) -> list[int]:
        """Return the bit set of each latent's parents, in sampling order."""
        if set(parents) != set(self._latents):
            wrong = sorted(set(parents) ^ set(self._latents))
            self._add("$.parents", "not one entry per latent", "", _short(wrong))
            return []
        sets = []
        for i, latent in enumerate(self._latents):
            where = f"$.parents.{latent}"
            nodes = 0
            for name in parents[latent]:
                place = self._places.get(name)
                if place is None:
                    self._add(where, "unknown parent", "a latent or observed", name)
                else:
                    nodes |= 1 << place
            self._check_order(i, nodes, where)
            sets.append(nodes)
        return sets

    def read_runs(self, rows: Sequence[str]) -> list[int]:
        """Return the bit set of each latent's parents, in sampling order."""
        if len(rows) != len(self._latents):
            self._add(
                "$.parent_runs",
                "not one entry per latent",
                str(len(self._latents)),
                str(len(rows)),
            )
            return []
        sets = []
        for i, row in enumerate(rows):
            where = f"$.parent_runs[{i}]"
            nodes = 0
            free = 0
            for run in row.split():
                ends = run.split("-")
                first, last = int(ends[0]), int(ends[-1])
                if not free <= first <= last < self._size:
                    self._add(
                        where,
                        "a run out of order or out of range",
                        f"ascending positions from {free} to {self._size - 1}",
                        run,
                    )
                    break
                nodes |= (1 << last + 1) - (1 << first)
                free = last + 1
            self._check_order(i, nodes, where)
            sets.append(nodes)
        return sets

    def _check_order(self, i: int, nodes: int, where: str) -> None:
        late = (nodes & (1 << len(self._latents)) - 1) >> i
        if late:
            place = i + late.bit_length() - 1
            self._add(
                where,
                "a parent that is sampled later",
                "an earlier latent or an observed node",
                self._latents[place],
            )

    def _add(self, where: str, what: str, expected: str, got: str) -> None:
        self.problems.append(Problem(f"{self._source}: {where}", what, expected, got))
