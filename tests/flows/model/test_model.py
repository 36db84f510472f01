"""Tests of flows.model.model: the ways to make one."""

import dataclasses

import pytest
import torch

from daphne_bridge.compiler import compile_program
from daphne_bridge.errors import CompileError, DocumentError
from daphne_bridge.graph.document import (
    GraphDocument,
    NodeNames,
    dump_document,
    dump_names,
)
from flows.model.model import Model

from .programs import PROGRAMS, model_of

DATA = "(let [m (sample (normal 0 1))] (observe (normal m 1) (first points)) m)"


def test_a_program_its_document_and_its_graph_give_one_model(tmp_path):
    text = PROGRAMS["regression"]
    program, document = tmp_path / "one.daphne", tmp_path / "one.json"
    program.write_text(text)
    compiled = compile_program(text, "one.daphne")
    triple = GraphDocument.from_triple(compiled.document, str(document))
    dump_document(triple, document)
    dump_names(NodeNames(compiled.labels, compiled.positions), triple, document)

    _, wanted = model_of("regression")
    for model in (Model.compile(program), Model.load(str(document))):
        assert model.layout == wanted.layout
        draws = model.sample(5, generator=torch.Generator().manual_seed(0))
        found = model.log_joint(draws.latents, draws.observed)
        assert torch.equal(found, wanted.log_joint(draws.latents, draws.observed))


def test_data_of_a_program_come_from_a_file_or_a_mapping(tmp_path):
    program, table = tmp_path / "one.daphne", tmp_path / "data.csv"
    program.write_text(DATA)
    table.write_text("points\n2.5\n7\n")
    assert Model.compile(program, data=table).observation().tolist() == [2.5]
    given = {"points": [1.5]}
    assert Model.compile(str(program), data=given).observation().tolist() == [1.5]
    with pytest.raises(CompileError, match="points"):
        Model.compile(program)


@pytest.mark.parametrize("make", [Model.compile, Model.load])
def test_a_file_that_is_not_there_is_named(tmp_path, make):
    with pytest.raises(DocumentError, match=r"nowhere.*no such file"):
        make(tmp_path / "nowhere")


def test_a_model_cannot_be_changed():
    _, model = model_of("regression")
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.dtype = torch.float32
