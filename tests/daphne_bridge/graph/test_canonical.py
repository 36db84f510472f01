"""Tests of daphne_bridge.graph.canonical."""

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ..documents import CIRCUIT, CIRCUIT_DATA, make_graph


def renamed(term, names):
    if isinstance(term, list):
        return [renamed(part, names) for part in term]
    return names.get(term, term) if isinstance(term, str) else term


def shuffled(links, data, seed):
    """Return the same model under other names, written in another order."""
    source = random.Random(seed)
    numbers = list(range(len(links)))
    source.shuffle(numbers)
    names = {
        name: f"{name.rstrip('0123456789')}{100 + number}"
        for name, number in zip(links, numbers, strict=True)
    }
    entries = [(names[name], renamed(term, names)) for name, term in links.items()]
    source.shuffle(entries)
    return dict(entries), {names[n]: v for n, v in data.items()}, names


@st.composite
def random_models(draw):
    """Models of normals with symmetric and asymmetric parts."""
    count = draw(st.integers(2, 9))
    links, data = {}, {}
    for number in range(count):
        earlier = [name for name in links if name.startswith("sample")]
        chosen = draw(st.lists(st.sampled_from(earlier), max_size=3)) if earlier else []
        mean = ["+", 0, *chosen]
        scale = draw(st.sampled_from([1, 2]))
        if number and draw(st.booleans()):
            name = f"observe{number}"
            links[name] = ["observe*", ["normal", mean, scale], 1.5]
            data[name] = 1.5
        else:
            links[f"sample{number}"] = ["sample*", ["normal", mean, scale]]
    return links, data


@given(random_models(), st.integers(0, 10**6))
def test_renaming_changes_neither_digest_nor_canonical_links(model, seed):
    links, data = model
    other_links, other_data, names = shuffled(links, data, seed)
    graph, other = make_graph(links, data), make_graph(other_links, other_data)
    assert graph.digest == other.digest
    # The canonical orders give an isomorphism: equal links position by position.
    place = {n: i for i, n in enumerate(graph.canonical.order)}
    other_place = {n: i for i, n in enumerate(other.canonical.order)}
    for name, twin in zip(graph.canonical.order, other.canonical.order, strict=True):
        assert [place[p] for p in graph.parents(name)] == [
            other_place[p] for p in other.parents(twin)
        ]
    assert graph.canonical.shapes == other.canonical.shapes
    assert set(names.values()) == set(other.canonical.order)


def test_data_do_not_enter_the_digest():
    other = dict(CIRCUIT, observe8=["observe*", ["normal", "sample5", 0.1], 3.0])
    graph = make_graph(CIRCUIT, CIRCUIT_DATA)
    assert make_graph(other, dict(CIRCUIT_DATA, observe8=3.0)).digest == graph.digest


def test_a_changed_link_changes_the_digest():
    graph = make_graph(CIRCUIT, CIRCUIT_DATA)
    for change in (
        {"sample6": ["sample*", ["normal", 7, 2.5]]},
        {"sample5": ["sample*", ["normal", ["*", "sample3", "sample3"], 0.1]]},
        {"sample3": ["sample*", ["laplace", -2, 1.0000001]]},
    ):
        assert make_graph({**CIRCUIT, **change}, CIRCUIT_DATA).digest != graph.digest


def test_whole_numbers_and_floats_are_the_same_number():
    graph = make_graph(CIRCUIT, CIRCUIT_DATA)
    same = {**CIRCUIT, "sample6": ["sample*", ["normal", 7.0, 2.0]]}
    assert make_graph(same, CIRCUIT_DATA).digest == graph.digest


def test_a_ring_is_not_the_same_as_two_rings():
    """Nodes that look alike locally: the arrangement must enter the digest."""

    def pairs(cycles):
        links, data = {}, {}
        for cycle in cycles:
            for node in cycle:
                links[f"sample{node}"] = ["sample*", ["normal", 0, 1]]
            for left, right in [*pairwise(cycle), (cycle[-1], cycle[0])]:
                name = f"observe{100 + left}"
                mean = ["-", f"sample{left}", f"sample{right}"]
                links[name] = ["observe*", ["normal", mean, 1], 0]
                data[name] = 0
        return make_graph(links, data)

    one = pairs([[0, 1, 2, 3, 4, 5]])
    two = pairs([[0, 1, 2], [3, 4, 5]])
    turned = pairs([[0, 3, 5, 1, 4, 2]])
    assert one.digest != two.digest
    assert one.digest == turned.digest
