"""The protocol's own files: schemas are schemas, generated types are fresh, golden conversations keep to both."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

PROTOCOL = Path(__file__).resolve().parents[2] / "protocol"
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in sorted((PROTOCOL / "schemas").glob("*.json"))}
GOLDEN = sorted((PROTOCOL / "golden").glob("*.json"))
WILD = {"string": "x", "integer": 1}


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", PROTOCOL / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCHEMAS.values(), ids=SCHEMAS)
def test_schemas_are_valid(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(read(path))


def test_generated_types_are_fresh(generator: ModuleType) -> None:
    assert generator.main(["--check"]) == 0


def test_asyncapi_names_every_message_and_every_reference_leads_somewhere() -> None:
    document = yaml.safe_load((PROTOCOL / "asyncapi.yaml").read_text("utf-8"))

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    for reference in references(document):
        if reference.startswith("#/"):
            target = document
            for part in reference[2:].split("/"):
                target = target[part]
        else:
            assert (PROTOCOL / reference).is_file()
    messages = set(document["components"]["messages"])
    assert messages == set(document["channels"]["stream"]["messages"])
    assert messages == set(SCHEMAS) - {"transcript", "problem"} | {"audio"}
    sent = {
        reference["$ref"].rpartition("/")[2]
        for operation in document["operations"].values()
        for reference in operation["messages"]
    }
    assert sent == messages


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_golden_server_messages_keep_to_their_schemas(path: Path) -> None:
    conversation = read(path)
    assert set(conversation) == {"title", "steps"}
    assert "close" in conversation["steps"][-1]
    for step in conversation["steps"]:
        [(kind, content)] = step.items()
        assert kind in {"client", "client_text", "client_audio", "server", "close"}
        if kind == "server":
            filled = {
                key: WILD[value["any"]] if isinstance(value, dict) and "any" in value else value
                for key, value in content.items()
            }
            jsonschema.validate(filled, read(SCHEMAS[content["type"]]))


def test_every_error_code_is_documented() -> None:
    text = (PROTOCOL / "README.md").read_text("utf-8")
    for code in read(SCHEMAS["error"])["properties"]["code"]["enum"]:
        assert f"`{code}`" in text
