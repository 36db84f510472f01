"""Tests of daphne_bridge.building."""

import gc

import pytest

from daphne_bridge.building import building


def test_cycles_are_looked_for_again_whatever_happens():
    assert gc.isenabled()
    with building():
        assert not gc.isenabled()
        with building():
            pass
        assert not gc.isenabled()
    with pytest.raises(KeyError), building():
        raise KeyError
    assert gc.isenabled()


def test_a_caller_who_looks_for_none_is_left_alone():
    gc.disable()
    try:
        with building():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
