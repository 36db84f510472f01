"""Tests of flows.storage.manifest, and of its schema.

The oracle of the schema is the type and the other way round: they are written by hand,
each by itself.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib.resources import files
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from jsonschema import Draft202012Validator, ValidationError

from daphne_bridge.graph.document import document_from_json
from daphne_bridge.graph.graph import Graph
from flows.cnf.vector_field import FieldConfig
from flows.storage.artifact import Artifact
from flows.storage.manifest import Manifest

from ..conftest import inputs_document, pair_document
from ..model.programs import graph_of
from ..saved_artifact import save_document

SCHEMA = json.loads(
    files("flows.storage").joinpath("manifest.schema.json").read_text("utf-8")
)
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}


def differences(kind: Any, schema: dict[str, Any], where: str = "$"):
    """Yield where a type and a schema differ."""
    while "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if get_origin(kind) is UnionType:
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        hints, known = get_type_hints(kind), schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            yield f"{where}: other members are allowed"
        for name in {*hints} ^ {*known}:
            yield f"{where}.{name}: only in {'type' if name in hints else 'schema'}"
        needed = {f.name for f in fields(kind) if is_needed(f)}
        for name in needed ^ {*schema["required"]}:
            yield f"{where}.{name}: needed by one only"
        for name in {*hints} & {*known}:
            yield from differences(hints[name], known[name], f"{where}.{name}")
    elif get_origin(kind) is tuple:
        if schema["type"] != "array":
            yield f"{where}: no array"
        yield from differences(get_args(kind)[0], schema["items"], f"{where}[]")
    elif get_origin(kind) is Mapping and get_args(kind)[1] is Any:
        if "properties" in schema or schema["type"] != "object":
            yield f"{where}: no object of any members"
    elif get_origin(kind) is Mapping:
        if schema["type"] != "object":
            yield f"{where}: no object"
        inner = schema.get("additionalProperties") or [*schema["properties"].values()]
        for each in inner if isinstance(inner, list) else [inner]:
            yield from differences(get_args(kind)[1], each, f"{where}.*")
    elif "type" in schema or not schema.keys() & {"const", "enum"}:
        if schema["type"] != PLAIN[kind]:
            yield f"{where}: {schema['type']} for {kind}"
    elif {type(v) for v in schema.get("enum", [schema.get("const")])} != {kind}:
        yield f"{where}: values of another type than {kind}"


def is_needed(field: Any) -> bool:
    """Whether a member is always written: no default that is left out."""
    left_out = field.default is None or field.default == ()
    return field.default is MISSING or not left_out


def test_every_field_stands_in_the_schema_and_the_other_way_round():
    found = {*differences(Manifest, SCHEMA)}
    assert found == set()


def test_the_schema_knows_the_settings_of_the_vector_field():
    known = SCHEMA["$defs"]["cnf"]
    assert {*known["properties"]} == {f.name for f in fields(FieldConfig)}
    assert {*known["required"]} == {*known["properties"]}


INTERVAL = "(let [u (sample (uniform-continuous -1 3))] (observe (normal u 1) 0.5) u)"


@pytest.mark.parametrize("document", [pair_document(), inputs_document(), INTERVAL])
def test_a_manifest_fits_the_schema_and_survives_writing_and_reading(
    document, tmp_path
):
    graph = (
        graph_of(document)
        if isinstance(document, str)
        else Graph.from_document(document_from_json(document, "model.json"))
    )
    save_document(tmp_path / "artifact", graph)
    text = (tmp_path / "artifact" / "manifest.json").read_text()
    Draft202012Validator(SCHEMA).validate(json.loads(text))
    manifest = Artifact.load(tmp_path / "artifact").manifest
    assert json.loads(json.dumps(manifest.to_json())) == json.loads(text)
    assert Manifest.from_json(manifest.to_json()) == manifest
    if document is INTERVAL:
        assert manifest.layout.latents[0].bounds == (-1.0, 3.0)


def test_another_kind_of_flow_brings_its_own_settings(tmp_path):
    save_document(tmp_path / "artifact", pair_document())
    entry = json.loads((tmp_path / "artifact" / "manifest.json").read_text())
    entry["flow"] = {"kind": "other", "config": {"knots": 8}}
    Draft202012Validator(SCHEMA).validate(entry)
    entry["flow"]["kind"] = "cnf"
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(entry)
