"""Tests of flows.report.graph_picture: what is drawn is the graph."""

import itertools
import re
from xml.etree import ElementTree

from flows.report.graph_picture import graph_picture

SVG = "{http://www.w3.org/2000/svg}"


def drawn(names, parents, observed=()):
    return ElementTree.fromstring(
        graph_picture(names, parents, observed, {"a": "<a>"}, "t")
    )


def test_every_node_and_arrow_is_drawn_once():
    parents = {"a": (), "b": ("a",), "c": ("a", "b")}
    picture = drawn(list(parents), parents, observed=("c",))
    texts = [each.text for each in picture.iter(f"{SVG}text")]
    assert texts == ["<a>", "b", "c"]
    rects = list(picture.iter(f"{SVG}rect"))
    assert [each.get("fill") for each in rects] == ["#ffffff", "#ffffff", "#d8d8d8"]
    middles = {
        name: (
            float(each.get("x")) + float(each.get("width")) / 2,
            float(each.get("y")),
        )
        for name, each in zip(parents, rects, strict=True)
    }
    arrows = []
    for path in picture.findall(f"{SVG}path"):
        x0, y0, *_, x1, y1 = map(float, re.findall(r"-?[\d.]+", path.get("d")))
        start = min(middles, key=lambda n: abs(middles[n][0] - x0) + abs(
            middles[n][1] + 26 - y0))  # fmt: skip
        end = min(middles, key=lambda n: abs(middles[n][0] - x1) + abs(
            middles[n][1] - y1))  # fmt: skip
        arrows.append((start, end))
        assert y0 < y1
    assert sorted(arrows) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_nodes_of_a_layer_do_not_overlap_and_long_chains_are_drawn():
    names = [f"n{i}" for i in range(3000)]
    chain = {n: (names[i - 1],) if i else () for i, n in enumerate(names)}
    assert len(list(drawn(names, chain).iter(f"{SVG}rect"))) == 3000
    flat = dict.fromkeys(names[:50], ())
    rects = list(drawn(names[:50], flat).iter(f"{SVG}rect"))
    ends = sorted(
        (float(r.get("x")), float(r.get("x")) + float(r.get("width"))) for r in rects
    )
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))


def test_a_long_arrow_passes_beside_the_nodes_in_between():
    parents = {"a": (), "b": ("a",), "c": ("b",), "d": ("c", "a")}
    picture = drawn(list(parents), parents)
    boxes = [
        [float(each.get(key)) for key in ("x", "y", "width", "height")]
        for each in picture.iter(f"{SVG}rect")
    ]
    ways = [
        [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]
        for path in picture.findall(f"{SVG}path")
    ]
    (long,) = (way for way in ways if len(way) > 8)
    # Start, then two handles and an end for every layer; between are two bends.
    bends = [long[6:8], long[12:14]]
    for (x, y), (left, top, width, height) in zip(bends, boxes[1:3], strict=True):
        assert top < y < top + height
        assert not left - 1 < x < left + width + 1


def test_a_tangle_of_arrows_is_drawn_straight():
    names = [f"n{i}" for i in range(100)]
    parents = {name: tuple(names[:i]) for i, name in enumerate(names)}
    paths = drawn(names, parents).findall(f"{SVG}path")
    assert len(paths) == 100 * 99 // 2
    assert {len(re.findall(r"-?[\d.]+", path.get("d"))) for path in paths} == {8}
