"""This file draws a directed acyclic graph as layered SVG: nodes and arrows.

A node stands one layer below the lowest of its parents. Within a layer nodes are moved
towards the mean place of their parents, a few times down and up (the barycentre rule),
which avoids most crossings.

References:
    Sugiyama, Tagawa, Toda (1981), Methods for visual understanding of hierarchical
    system structures, IEEE Transactions on Systems, Man, and Cybernetics 11(2).
"""

from collections.abc import Collection, Mapping, Sequence
from xml.sax.saxutils import escape

from daphne_bridge.errors import printable

__all__ = ["graph_picture"]

_LAYER_HEIGHT = 64
_GAP = 14
_HEIGHT = 26
_SWEEPS = 4
_MOST_SHOWN = 12


def graph_picture(
    names: Sequence[str],
    parents: Mapping[str, Collection[str]],
    observed: Collection[str],
    labels: Mapping[str, str],
    title: str,
) -> str:
    """Return the picture; observed nodes are shaded.

    Args:
        names: The nodes, parents before children.
        parents: Parents of every node.
        observed: The observed nodes.
        labels: What is written on the nodes.
        title: What the picture shows.
    """
    layers = _layers(names, parents)
    _order(layers, names, parents)
    shown = {name: _short(printable(labels.get(name, name))) for name in names}
    widths = {name: 18 + 7.2 * len(shown[name]) for name in names}
    totals = [sum(widths[n] + _GAP for n in layer) for layer in layers]
    width = max(totals, default=0.0) + _GAP
    height = _LAYER_HEIGHT * len(layers)
    places: dict[str, tuple[float, float]] = {}
    for depth, layer in enumerate(layers):
        x = (width - totals[depth]) / 2 + _GAP / 2
        for name in layer:
            places[name] = (x + widths[name] / 2, _LAYER_HEIGHT * (depth + 0.5))
            x += widths[name] + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
        f'height="{height}" viewBox="0 0 {width:.0f} {height}" '
        'font-family="monospace" font-size="12" text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#666"/>'
        "</marker></defs>",
    ]
    for name in names:
        x, y = places[name]
        for parent in parents[name]:
            px, py = places[parent]
            top, bottom = py + _HEIGHT / 2, y - _HEIGHT / 2
            bend = (bottom - top) / 2
            lines.append(
                f'<path d="M{px:.1f} {top:.1f}C{px:.1f} {top + bend:.1f} {x:.1f} '
                f'{bottom - bend:.1f} {x:.1f} {bottom:.1f}" fill="none" '
                'stroke="#888" marker-end="url(#tip)"/>'
            )
    for name in names:
        x, y = places[name]
        fill = "#d8d8d8" if name in observed else "#ffffff"
        lines.append(
            f'<rect x="{x - widths[name] / 2:.1f}" y="{y - _HEIGHT / 2:.1f}" '
            f'width="{widths[name]:.1f}" height="{_HEIGHT}" rx="13" fill="{fill}" '
            f'stroke="#444"/><text x="{x:.1f}" y="{y + 4:.1f}">'
            f"{escape(shown[name])}</text>"
        )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _short(label: str) -> str:
    return label if len(label) <= _MOST_SHOWN else label[: _MOST_SHOWN - 1] + "…"


def _layers(
    names: Sequence[str], parents: Mapping[str, Collection[str]]
) -> list[list[str]]:
    depth: dict[str, int] = {}
    for name in names:
        depth[name] = max((depth[p] + 1 for p in parents[name]), default=0)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in names:
        layers[depth[name]].append(name)
    return layers


def _order(
    layers: list[list[str]],
    names: Sequence[str],
    parents: Mapping[str, Collection[str]],
) -> None:
    """Sort every layer so that arrows cross little."""
    children: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for parent in parents[name]:
            children[parent].append(name)
    for sweep in range(_SWEEPS):
        neighbours: Mapping[str, Collection[str]] = children if sweep % 2 else parents
        place = {
            name: (i + 0.5) / len(layer)
            for layer in layers
            for i, name in enumerate(layer)
        }
        for layer in reversed(layers) if sweep % 2 else layers:
            wanted = {
                name: sum(place[n] for n in neighbours[name]) / len(neighbours[name])
                if neighbours[name]
                else place[name]
                for name in layer
            }
            layer.sort(key=lambda name: wanted[name])
            place |= {name: (i + 0.5) / len(layer) for i, name in enumerate(layer)}
