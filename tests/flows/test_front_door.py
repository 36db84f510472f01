"""Tests of the package's own names."""

import pydoc
import subprocess
import sys
from importlib import import_module

import pytest

import flows

NAMES = {
    "BridgeError", "Engine", "Flow", "FlowsError", "Graph", "Learned", "Model",
    "Particles",
    "Posterior", "Proposal", "infer", "learn", "load", "refine", "train",
}  # fmt: skip


def test_the_front_door_shows_these_names_and_nothing_private():
    assert set(flows.__all__) == set(dir(flows)) == NAMES
    for name in NAMES:
        value = getattr(flows, name)
        assert value.__name__ == name
        assert value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        _ = flows.nobody


def test_names_are_those_that_the_rooms_use():
    for name in NAMES:
        value = getattr(flows, name)
        assert getattr(import_module(value.__module__), name) is value


def test_importing_it_loads_no_library():
    code = (
        "import sys, flows; assert not {'torch', 'numpy', 'click'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_is_a_page_that_begins_with_the_example():
    page = pydoc.plain(pydoc.render_doc(flows))
    assert "posterior = flows.train(model" in page
    assert page.index("flows.train(model") < 800
    assert "_HOMES" not in page.split("DATA")[0]
