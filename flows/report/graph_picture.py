"""This file draws a directed acyclic graph as layered SVG: nodes and arrows.

A node stands one layer below the lowest of its parents. An arrow over several layers
has a bend in each, which takes part in the layer as a narrow node, so that arrows pass
beside nodes and not behind them. Within a layer nodes are moved towards the mean place
of their parents, a few times down and up (the barycentre rule), which avoids most
crossings.

References:
    Sugiyama, Tagawa, Toda (1981), Methods for visual understanding of hierarchical
    system structures, IEEE Transactions on Systems, Man, and Cybernetics 11(2).
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from xml.sax.saxutils import escape

from daphne_bridge.errors import printable

__all__ = ["graph_picture"]

# A node by its name, or a bend by the ends of its arrow and its layer.
_Point = str | tuple[str, str, int]

_LAYER_HEIGHT = 64
_GAP = 14
_HEIGHT = 26
_SWEEPS = 4
_MOST_SHOWN = 12
# With more bends than this the picture is a tangle, and arrows go straight.
_MOST_BENDS = 2000


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
    depth = _depths(names, parents)
    bends = _bends(names, parents, depth)
    above: dict[_Point, list[_Point]] = {
        name: [bends.get((p, name), (p,))[-1] for p in parents[name]] for name in names
    }
    for points in bends.values():
        above |= {point: [before] for before, point in itertools.pairwise(points)}
    layers: list[list[_Point]] = [
        [] for _ in range(max(depth.values(), default=-1) + 1)
    ]
    for name in names:
        layers[depth[name]].append(name)
    for (parent, _), points in bends.items():
        for count, point in enumerate(points[1:], depth[parent] + 1):
            layers[count].append(point)
    _order(layers, above)
    shown = {name: _short(printable(labels.get(name, name))) for name in names}
    widths: dict[_Point, float] = {n: 18 + 7.2 * len(shown[n]) for n in names}
    totals = [sum(widths.get(n, 0.0) + _GAP for n in layer) for layer in layers]
    width = max(totals, default=0.0) + _GAP
    height = _LAYER_HEIGHT * len(layers)
    places: dict[_Point, tuple[float, float]] = {}
    for row, layer in enumerate(layers):
        x = (width - totals[row]) / 2 + _GAP / 2
        for point in layer:
            own = widths.get(point, 0.0)
            places[point] = (x + own / 2, _LAYER_HEIGHT * (row + 0.5))
            x += own + _GAP
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
        for parent in parents[name]:
            points = bends.get((parent, name), (parent,))
            way = _way([places[point] for point in (*points, name)])
            lines.append(
                f'<path d="{way}" fill="none" stroke="#888" marker-end="url(#tip)"/>'
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


def _depths(
    names: Sequence[str], parents: Mapping[str, Collection[str]]
) -> dict[str, int]:
    depth: dict[str, int] = {}
    for name in names:
        depth[name] = max((depth[p] + 1 for p in parents[name]), default=0)
    return depth


def _bends(
    names: Sequence[str],
    parents: Mapping[str, Collection[str]],
    depth: Mapping[str, int],
) -> dict[tuple[str, str], tuple[_Point, ...]]:
    """Return parent and bends, from above, of every arrow that has some."""
    long = [
        (parent, name)
        for name in names
        for parent in parents[name]
        if depth[name] - depth[parent] > 1
    ]
    if sum(depth[name] - depth[parent] - 1 for parent, name in long) > _MOST_BENDS:
        return {}
    return {
        (parent, name): (
            parent,
            *((parent, name, row) for row in range(depth[parent] + 1, depth[name])),
        )
        for parent, name in long
    }


def _way(points: Sequence[tuple[float, float]]) -> str:
    """Return a curve from the lower edge of the first to the upper of the last."""
    (x0, y0), *inner, (x1, y1) = points
    places = [(x0, y0 + _HEIGHT / 2), *inner, (x1, y1 - _HEIGHT / 2)]
    way = f"M{x0:.1f} {y0 + _HEIGHT / 2:.1f}"
    for (left, top), (right, bottom) in itertools.pairwise(places):
        half = (top + bottom) / 2
        way += f"C{left:.1f} {half:.1f} {right:.1f} {half:.1f} {right:.1f} {bottom:.1f}"
    return way


def _order(
    layers: list[list[_Point]], above: Mapping[_Point, Collection[_Point]]
) -> None:
    """Sort every layer so that arrows cross little."""
    below: dict[_Point, list[_Point]] = {p: [] for layer in layers for p in layer}
    for point, others in above.items():
        for other in others:
            below[other].append(point)
    for sweep in range(_SWEEPS):
        neighbours: Mapping[_Point, Collection[_Point]] = below if sweep % 2 else above
        place = {
            point: (i + 0.5) / len(layer)
            for layer in layers
            for i, point in enumerate(layer)
        }
        for layer in reversed(layers) if sweep % 2 else layers:
            wanted = {
                point: sum(place[n] for n in neighbours[point]) / len(neighbours[point])
                if neighbours[point]
                else place[point]
                for point in layer
            }
            layer.sort(key=lambda point: wanted[point])
            place |= {point: (i + 0.5) / len(layer) for i, point in enumerate(layer)}
