"""This file trains one small flow for all tests of the commands."""

import pytest

from .pair import make_run


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("commands"))
