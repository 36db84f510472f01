"""This file draws an inverse: as text, as DOT for Graphviz, as an adjacency picture."""

from collections.abc import Iterator
from html import escape

from ..errors import printable
from ..graph.drawing import quoted
from .elimination import members
from .elimination_search import Candidate
from .nami import Inverse

__all__ = ["inverse_to_dot", "inverse_to_svg", "show_inverse"]

_MOST_NAMES = 16
_CELL = 12
_LABELLED = 64


def show_inverse(inverse: Inverse) -> str:
    """Return an inverse as text: one line per latent, in sampling order."""
    latents = [_both(inverse, name) for name in inverse.latents]
    width = max((len(name) for name in latents), default=0)
    lines = [
        f"{len(inverse.latents)} latents given {len(inverse.observed)} observed nodes, "
        f"{inverse.num_edges} edges",
        f"model {inverse.digest}" if inverse.digest else "model without digest",
        f"chosen: {_plan(inverse.candidate)}",
        f"tried: {'; '.join(_tried(inverse))}",
    ]
    for shown, nodes in zip(latents, inverse.parents.sets, strict=True):
        places = members(nodes)
        names = inverse.parents.names_at(places[:_MOST_NAMES])
        above = ", ".join(_both(inverse, name) for name in names)
        if len(places) > _MOST_NAMES:
            above += f", ... ({len(places)} in all)"
        lines.append(f"{shown:<{width}} <- {above}".rstrip())
    return "\n".join(map(printable, lines)) + "\n"


def _plan(candidate: Candidate) -> str:
    plan = candidate.plan
    barren = ", barren latents from prior" if plan.barren == "from prior" else ""
    return f"{plan.mode}, {plan.rule}{barren}"


def _tried(inverse: Inverse) -> Iterator[str]:
    """Yield each mode's best number of edges, then how many were stopped."""
    best: dict[str, int] = {}
    stopped = 0
    for candidate in inverse.candidates:
        if candidate.edges is None:
            stopped += 1
            continue
        mode = candidate.plan.mode
        best[mode] = min(best.get(mode, candidate.edges), candidate.edges)
    for name, edges in best.items():
        yield f"{name} {edges} edges at best"
    yield f"{len(inverse.candidates)} candidates, {stopped} of them stopped early"


def _both(inverse: Inverse, name: str) -> str:
    label = inverse.labels.get(name, name)
    return name if label == name else f"{label} ({name})"


def inverse_to_dot(inverse: Inverse) -> str:
    """Return an inverse in the DOT language; observed nodes are shaded."""
    lines = ["digraph inverse {", "  node [shape=ellipse];"]
    for name in [*inverse.latents, *inverse.observed]:
        shade = ""
        if name not in inverse.parents:
            shade = ", style=filled, fillcolor=lightgrey"
        label = quoted(_both(inverse, name))
        lines.append(f"  {quoted(name)} [label={label}{shade}];")
    lines += [
        f"  {quoted(parent)} -> {quoted(latent)};"
        for latent, above in inverse.parents.items()
        for parent in above
    ]
    return "\n".join(map(printable, [*lines, "}"])) + "\n"


def inverse_to_svg(inverse: Inverse) -> str:
    """Return the adjacency picture as SVG.

    Rows are latents in sampling order, columns latents followed by observed nodes. A
    dark cell means that the row's latent has the column's node as a parent; the
    diagonal is grey, the observed columns stand to the right of the line.
    """
    names = [*inverse.latents, *inverse.observed]
    rows, columns = len(inverse.latents), len(names)
    cell = _CELL if columns <= _LABELLED else max(1, 1200 // columns)
    shown = [_both(inverse, name) for name in names]
    is_labelled = columns <= _LABELLED
    margin = 8 + 7 * max(map(len, shown), default=0) if is_labelled else 8
    width, height = margin + columns * cell + 8, margin + rows * cell + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="monospace" font-size="10">',
        f"<title>{rows} latents given {columns - rows} observed nodes, "
        f"{inverse.num_edges} edges</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<g transform="translate({margin} {margin})">',
    ]
    for row, nodes in enumerate(inverse.parents.sets):
        lines += [
            f'<rect x="{first * cell}" y="{row * cell}" '
            f'width="{count * cell}" height="{cell}"/>'
            for first, count in _runs(members(nodes))
        ]
        lines.append(
            f'<rect x="{row * cell}" y="{row * cell}" width="{cell}" '
            f'height="{cell}" fill="#bbb"/>'
        )
    lines.append(
        f'<path d="M0 0H{columns * cell}V{rows * cell}H0ZM{rows * cell} 0'
        f'V{rows * cell}" fill="none" stroke="#888"/>'
    )
    if is_labelled:
        lines += [
            f'<text x="-4" y="{row * cell + cell - 2}" text-anchor="end">'
            f"{escape(printable(shown[row]))}</text>"
            for row in range(rows)
        ]
        lines += [
            f'<text transform="translate({column * cell + cell - 2} -4) rotate(-90)">'
            f"{escape(printable(shown[column]))}</text>"
            for column in range(columns)
        ]
    return "\n".join([*lines, "</g>", "</svg>"]) + "\n"


def _runs(places: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, length) of each run of consecutive numbers."""
    start = 0
    for i, place in enumerate(places):
        if i + 1 == len(places) or places[i + 1] != place + 1:
            yield places[start], i + 1 - start
            start = i + 1
