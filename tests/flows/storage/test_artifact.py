"""Tests of flows.storage.artifact."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from daphne_bridge.inversion.nami import invert
from flows.cnf.vector_field import FieldConfig
from flows.errors import ArtifactError
from flows.flow.building import build_structure
from flows.flow.kinds import build_flow
from flows.model.model import Model
from flows.storage.artifact import Artifact

from ..conftest import inputs_document, pair_document
from ..random_weights import randomise
from ..saved_artifact import rewrite, save_document


def graph_of(*arguments, **options):
    document = document_from_json(pair_document(*arguments, **options), "other.json")
    return Graph.from_document(document)


@pytest.fixture
def made(pair_graph):
    """A flow with random weights and its artifact."""
    model = Model.from_graph(pair_graph)
    structure = build_structure(invert(pair_graph), model.layout, nuisances=1)
    flow = build_flow(structure, FieldConfig(layers=3, hidden=4), seed=3)
    randomise(flow, model, 0.3)
    artifact = Artifact.from_flow(
        flow, pair_graph, model.layout, seed=3, config={"a": 1}, metrics={"best_j": 0.1}
    )
    return flow, model, artifact


@pytest.fixture
def folder(made, tmp_path):
    made[2].save(tmp_path / "artifact")
    return tmp_path / "artifact"


def log_prob(flow, model, latents, observed):
    rows = torch.tensor([latents], dtype=torch.float64)
    given = torch.tensor([observed], dtype=torch.float64)
    nuisances = torch.zeros(1, flow.structure.nuisance_dim, dtype=torch.float64)
    return float(flow.log_prob(rows, nuisances, given).detach())


def test_a_loaded_flow_gives_the_same_densities(made, folder, pair_graph):
    flow, model, artifact = made
    loaded = Artifact.load(folder)
    assert loaded.golden.to_json() == artifact.golden.to_json()
    again = loaded.flow_for(pair_graph, model.layout)
    expected = log_prob(artifact.flow(), model, [0.3, -1.0], [0.5, 1.5])
    assert log_prob(again, model, [0.3, -1.0], [0.5, 1.5]) == expected
    fine = log_prob(flow.double(), model, [0.3, -1.0], [0.5, 1.5])
    assert fine == pytest.approx(expected, rel=1e-5)  # float32 against float64


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("numbers", [(1, 2, 3, 4), (9, 4, 7, 2), (1, 3, 4, 2)])
def test_names_numbering_order_and_data_do_not_matter(folder, made, numbers, reverse):
    _, model, artifact = made
    graph = graph_of(numbers, (7.0, -3.0), reverse=reverse)
    other = Model.from_graph(graph)
    flow = Artifact.load(folder).flow_for(graph, other.layout)
    # Columns of the other document follow its own order of nodes.
    value = {f"sample{numbers[0]}": 0.3, f"sample{numbers[1]}": -1.0}
    data = {f"observe{numbers[2]}": 0.5, f"observe{numbers[3]}": 1.5}
    there = log_prob(
        flow,
        other,
        [value[v.name] for v in other.layout.latents],
        [data[v.name] for v in other.layout.observed],
    )
    here = log_prob(artifact.flow(), model, [0.3, -1.0], [0.5, 1.5])
    assert there == pytest.approx(here, abs=1e-9)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("numbers", [(9, 4, 7, 2), (1, 3, 4, 2)])
def test_factors_follow_names_numbering_and_order(tmp_path, numbers, reverse):
    _, model = save_document(tmp_path / "artifact", inputs_document())
    artifact = Artifact.load(tmp_path / "artifact")
    assert len(artifact.manifest.structure.factors) == 3
    document = inputs_document(numbers, (7.0, -3.0), reverse=reverse)
    graph = Graph.from_document(document_from_json(document, "other.json"))
    other = Model.from_graph(graph)
    flow = artifact.flow_for(graph, other.layout)

    def density(flow, layout, numbers):
        value = {f"sample{numbers[0]}": 0.3, f"sample{numbers[1]}": -1.0}
        data = {f"observe{numbers[2]}": 0.5, f"observe{numbers[3]}": 1.5}
        latents = [value[v.name] for v in layout.latents]
        return log_prob(flow, None, latents, [data[v.name] for v in layout.observed])

    here = density(artifact.flow(), model.layout, (1, 2, 3, 4))
    assert density(flow, other.layout, numbers) == pytest.approx(here, abs=1e-9)


def test_another_model_is_refused_and_the_first_difference_named(folder):
    graph = graph_of(scale=3)
    with pytest.raises(ArtifactError) as caught:
        Artifact.load(folder).flow_for(graph, Model.from_graph(graph).layout)
    said = str(caught.value)
    assert "another model than other.json" in said
    assert "(normal (* 2 sample1) 1) in the artifact" in said
    assert "(normal (* 2 sample1) 3) in the document" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "name", ["manifest.json", "weights.safetensors", "golden.json"]
)
def test_cut_missing_and_changed_files_are_refused_in_one_sentence(folder, name):
    content = (folder / name).read_bytes()
    for damaged in (
        b"",
        content[:-1],
        content[: len(content) // 2],
        content + b" ",
        b"\x00" * len(content),
    ):
        (folder / name).write_bytes(damaged)
        if name == "manifest.json" and damaged.strip() == content.strip():
            Artifact.load(folder)  # white space after JSON is no change
            continue
        with pytest.raises(ArtifactError) as caught:
            Artifact.load(folder)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        Artifact.load(folder)


def test_every_changed_byte_that_counts_is_noticed(folder):
    source = torch.Generator().manual_seed(5)
    for name in ("manifest.json", "weights.safetensors", "golden.json"):
        content = (folder / name).read_bytes()
        places = torch.randint(len(content), (60,), generator=source).tolist()
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1
            (folder / name).write_bytes(bytes(changed))
            try:
                Artifact.load(folder)
            except ArtifactError:
                continue
            # Only white space of the manifest may differ without meaning.
            assert json.loads(bytes(changed)) == json.loads(content)
        (folder / name).write_bytes(content)
    Artifact.load(folder)


def test_another_version_is_refused(folder):
    rewrite(folder, lambda manifest: manifest.update(version=99))
    with pytest.raises(ArtifactError, match="expected one of 1, 2, 3; got 99"):
        Artifact.load(folder)


def test_a_manifest_of_another_shape_is_refused_with_its_path(folder):
    rewrite(folder, lambda manifest: manifest["flow"]["config"].update(layers="four"))
    with pytest.raises(ArtifactError, match=r"\$\.flow\.config\.layers"):
        Artifact.load(folder)


def test_weights_of_another_architecture_are_refused(folder):
    rewrite(folder, lambda manifest: manifest["flow"]["config"].update(hidden=5))
    with pytest.raises(ArtifactError, match="does not fit the architecture"):
        Artifact.load(folder)


def test_a_flow_that_misses_its_golden_values_is_refused(folder, made):
    golden = json.loads((folder / "golden.json").read_text())
    golden["log_prob"][0] += 1e-3
    rewrite(folder, lambda _: None, [("golden.json", json.dumps(golden).encode())])
    with pytest.raises(ArtifactError, match="does not give its golden values"):
        Artifact.load(folder)


def test_saving_replaces_an_artifact_and_nothing_else(folder, made, tmp_path):
    made[2].save(folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "golden.json",
        "manifest.json",
        "weights.safetensors",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["artifact"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("text")
    with pytest.raises(ArtifactError, match="something else is in this place"):
        made[2].save(tmp_path / "precious")
    with pytest.raises(ArtifactError, match="its folder does not exist"):
        made[2].save(tmp_path / "no" / "artifact")


def test_a_kill_while_saving_leaves_the_old_artifact(folder, made, monkeypatch):
    before = (folder / "manifest.json").read_bytes()

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("flows.storage.folders.write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        made[2].save(folder)
    assert (folder / "manifest.json").read_bytes() == before
    Artifact.load(folder)


def test_what_is_no_artifact_is_refused(tmp_path, folder):
    with pytest.raises(ArtifactError, match="no such folder"):
        Artifact.load(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="this is a file"):
        Artifact.load(folder / "golden.json")
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ArtifactError, match="no such file"):
        Artifact.load(folder)


def test_numbers_that_are_not_finite_are_refused_in_a_sentence(
    made, pair_graph, tmp_path
):
    flow, model, _ = made
    said = {"seed": 3, "config": {}, "metrics": {"j": [0.5, float("nan")]}}
    artifact = Artifact.from_flow(flow, pair_graph, model.layout, **said)
    place = (
        r"manifest.json: \$.training.metrics.j\[1\]: .*; expected a finite number; got"
    )
    with pytest.raises(ArtifactError, match=place):
        artifact.save(tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    with torch.no_grad():
        flow.field.bias[0] = float("inf")
    with pytest.raises(ArtifactError, match=r"field\.bias .* not finite"):
        Artifact.from_flow(flow, pair_graph, model.layout, **{**said, "metrics": {}})


def test_a_place_may_be_text(made, tmp_path):
    made[2].save(str(tmp_path / "artifact"))
    assert Artifact.load(str(tmp_path / "artifact")).tolerance == 1e-6


def test_inverse_and_what_the_flow_reads_are_told_apart(tmp_path):
    """Oracle: the inverse by hand; the structure was given another edge."""
    graph, model = save_document(tmp_path / "pair", pair_document())
    structure = build_structure(invert(graph), model.layout, nuisances=1)
    first, second = structure.blocks
    wider = replace(second, observed_columns=(0, 1))
    flow = build_flow(replace(structure, blocks=(first, wider)), FieldConfig(), seed=1)
    artifact = Artifact.from_flow(
        flow, graph, model.layout, seed=0, config={}, metrics={}
    )
    artifact.save(tmp_path / "artifact")
    manifest = Artifact.load(tmp_path / "artifact").manifest
    assert manifest.inverse.parents == {
        "sample2": ("observe3", "observe4"),
        "sample1": ("sample2", "observe3"),
    }
    assert manifest.structure.parents == {
        **manifest.inverse.parents,
        "sample1": ("sample2", "observe3", "observe4"),
    }
