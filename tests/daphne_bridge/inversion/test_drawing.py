"""Tests of daphne_bridge.inversion.drawing."""

import xml.etree.ElementTree as ElementTree

from daphne_bridge.inversion.drawing import inverse_to_dot, inverse_to_svg, show_inverse
from daphne_bridge.inversion.elimination_plans import PUBLISHED
from daphne_bridge.inversion.nami import Inverse, invert_dag

from ..dags import arithmetic_circuit, state_space

SVG = "{http://www.w3.org/2000/svg}"


def circuit(labels: dict[str, str]) -> Inverse:
    example = arithmetic_circuit()
    return invert_dag(
        example.names,
        example.parents,
        example.observed,
        digest="sha256:12",
        labels=labels,
        plans=PUBLISHED,
    )


def chain(num_steps: int) -> Inverse:
    example = state_space(num_steps)
    return invert_dag(
        example.names, example.parents, example.observed, plans=PUBLISHED[:1]
    )


def test_the_text_shows_labels_beside_names_and_what_was_tried() -> None:
    text = show_inverse(circuit({"z4": "slope", "x0": "height"}))
    assert text == (
        "6 latents given 2 observed nodes, 12 edges\n"
        "model sha256:12\n"
        "chosen: topological, min-fill\n"
        "tried: topological 12 edges at best; reverse 16 edges at best; "
        "2 candidates, 0 of them stopped early\n"
        "z5         <- height (x0), x1\n"
        "z3         <- z5, height (x0)\n"
        "z2         <- z3\n"
        "z1         <- z3, z2\n"
        "z0         <- z3, z2, z1\n"
        "slope (z4) <- z5, z3\n"
    )


def test_the_text_of_a_large_inverse_is_short() -> None:
    text = show_inverse(chain(300))
    assert "... (300 in all)" in text
    assert max(map(len, text.splitlines())) < 200


def test_dot_has_every_edge_and_shades_the_observed() -> None:
    inverse = circuit({"z4": 'the "slope"'})
    text = inverse_to_dot(inverse)
    assert text.count(" -> ") == 12
    assert '"z5" -> "z4";' in text
    assert '"z4" [label="the \\"slope\\" (z4)"];' in text
    assert '"x0" [label="x0", style=filled, fillcolor=lightgrey];' in text


def test_the_picture_has_one_dark_cell_per_edge() -> None:
    inverse = circuit({"z4": "a<b"})
    root = ElementTree.fromstring(inverse_to_svg(inverse))
    group = root.find(f"{SVG}g")
    assert group is not None
    dark = set()
    for cell in group.findall(f"{SVG}rect"):
        x, y, width = (int(cell.get(key, "")) // 12 for key in ("x", "y", "width"))
        if cell.get("fill") is None:
            dark |= {(y, x + i) for i in range(width)}
    names = [*inverse.latents, *inverse.observed]
    assert {(names[column], names[row]) for row, column in dark} == {
        (parent, latent)
        for latent, above in inverse.parents.items()
        for parent in above
    }
    assert "a<b (z4)" in {text.text for text in group.findall(f"{SVG}text")}


def test_the_picture_of_a_large_inverse_has_no_names() -> None:
    picture = inverse_to_svg(chain(300))
    assert "<text" not in picture
    ElementTree.fromstring(picture)
