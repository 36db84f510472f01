"""Tests of flows.storage.stored_flow, with a kind that this package does not have."""

import sys
from types import ModuleType

import pytest
import torch

from flows.cnf.flow import ConditionalFlow
from flows.cnf.kind import KIND as CNF
from flows.cnf.vector_field import FieldConfig
from flows.errors import ArtifactError
from flows.flow.kinds import KINDS, Kind, build_flow
from flows.storage.artifact import Artifact

from ..saved_artifact import rewrite, save_pair


class Other(ConditionalFlow):
    """A flow that another kind has made."""

    kind = "other"


@pytest.fixture
def other_kind(monkeypatch):
    """Another kind in the registry, which counts no lengths of tensors."""
    module = ModuleType("another_kind_of_flow")
    module.KIND = Kind(
        name="other",
        config=FieldConfig,
        build=Other,
        for_weights=CNF.for_weights,
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(KINDS, "other", module.__name__)


@pytest.fixture
def folder(other_kind, tmp_path):
    graph, model = save_pair(tmp_path / "pair")
    structure = Artifact.load(tmp_path / "pair").flow().structure
    flow = build_flow(structure, FieldConfig(hidden=3), kind="other")
    artifact = Artifact.from_flow(
        flow, graph, model.layout, seed=0, config={}, metrics={}
    )
    artifact.save(tmp_path / "artifact")
    return tmp_path / "artifact"


def test_a_flow_of_another_kind_is_saved_and_loaded(folder):
    artifact = Artifact.load(folder)
    assert artifact.manifest.flow.kind == "other"
    flow = artifact.flow()
    assert isinstance(flow, Other)
    assert flow.dtype == torch.float64
    assert not any(parameter.requires_grad for parameter in flow.parameters())


def test_a_kind_that_is_not_here_is_refused_in_words(folder, monkeypatch):
    monkeypatch.delitem(KINDS, "other")
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(folder)
    assert "$.flow.kind: unknown kind of flow; expected one of cnf" in str(caught.value)
    assert "got other" in str(caught.value)


@pytest.mark.parametrize("config", [{}, {"layers": 3, "knots": 8}])
def test_settings_of_another_kind_are_refused_in_words(folder, config):
    rewrite(folder, lambda manifest: manifest["flow"].update(config=config))
    with pytest.raises(ArtifactError, match="not the settings of other; expected lay"):
        Artifact.load(folder)


def test_settings_out_of_bounds_are_refused_by_the_kind(folder):
    rewrite(folder, lambda manifest: manifest["flow"]["config"].update(layers=1))
    with pytest.raises(
        ArtifactError, match=r"config, layers: out of bounds; expected 2"
    ):
        Artifact.load(folder)


def test_tensors_of_another_shape_are_refused_without_counting(folder):
    rewrite(folder, lambda manifest: manifest["flow"]["config"].update(hidden=4))
    with pytest.raises(ArtifactError, match=r"tensor field.* does not fit"):
        Artifact.load(folder)
