"""This file keeps tests single-threaded and seeded, with a small trained flow."""

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


def pair_document(numbers=(1, 2, 3, 4), data=(0.5, 1.5), scale=1, reverse=False):
    """Return a linear-Gaussian model: a -> b, and one observation of each.

    Args:
        numbers: Running numbers of a, b and their observations.
        data: The two observed values.
        scale: Standard deviation of b given a.
        reverse: Whether to write the document back to front.
    """
    a, b = f"sample{numbers[0]}", f"sample{numbers[1]}"
    x, y = f"observe{numbers[2]}", f"observe{numbers[3]}"
    links = {
        a: ["sample*", ["normal", 1, 2]],
        b: ["sample*", ["normal", ["*", 2, a], scale]],
        x: ["observe*", ["normal", a, 1], data[0]],
        y: ["observe*", ["normal", b, 0.5], data[1]],
    }
    if reverse:
        links = dict(reversed(links.items()))
    values = {x: data[0], y: data[1]}
    return [{}, {"V": list(links), "A": {}, "P": links, "Y": values}, a]


@pytest.fixture
def pair_graph():
    return Graph.from_document(document_from_json(pair_document(), "pair.json"))


def inputs_document(numbers=(1, 2, 3, 4), data=(0.7, 1.5), reverse=False):
    """Return a model that is linear once x is known: b and y depend on x times a.

    Args:
        numbers: Running numbers of a, b, x and y.
        data: The values of x and y.
        reverse: Whether to write the document back to front.
    """
    a, b = f"sample{numbers[0]}", f"sample{numbers[1]}"
    x, y = f"observe{numbers[2]}", f"observe{numbers[3]}"
    links = {
        x: ["observe*", ["normal", 0, 1], data[0]],
        a: ["sample*", ["normal", 1, 2]],
        b: ["sample*", ["normal", ["*", x, a], 1]],
        y: ["observe*", ["normal", ["+", a, ["*", x, b]], 0.5], data[1]],
    }
    if reverse:
        links = dict(reversed(links.items()))
    values = {x: data[0], y: data[1]}
    return [{}, {"V": list(links), "A": {}, "P": links, "Y": values}, b]
