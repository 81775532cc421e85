"""What the next version may bring, planted into the examples of openapi.yaml; and the document closed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

FIELD, WORD = "planted_field", "planted_word"

Json = Any
Document = dict[str, Any]


def answers_in(document: Document) -> Iterator[dict[str, Json]]:
    """Every example of an answer, planted: its operation, method, path, status and body."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            for status, answer in operation["responses"].items():
                for content in _resolved(document, answer).get("content", {}).values():
                    if "example" in content:
                        yield {
                            "operation": operation["operationId"],
                            "method": method,
                            "path": path,
                            "status": int(status),
                            "body": plant(document, content["schema"], content["example"]),
                        }


def plant(document: Document, schema: Document, value: Json) -> Json:
    """The value with a field more in each object, and another word in place of each that may grow."""
    schema = _resolved(document, schema)
    if isinstance(value, list):
        return [plant(document, schema.get("items", {}), each) for each in value]
    if isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        grown = {name: plant(document, fields.get(name, others or {}), each) for name, each in value.items()}
        return grown | {FIELD: {"deep": [1]}} if fields and not isinstance(others, dict) else grown
    return WORD if "x-extensible-enum" in schema else value


def closed(document: Document) -> Document:
    """The document as it was before its answers were open."""
    document = copy.deepcopy(document)
    for schema in _objects(document):
        if "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        if words := schema.pop("x-extensible-enum", None):
            schema["enum"] = words
    return document


def _objects(node: Json) -> Iterator[dict[str, Json]]:
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(value)


def _resolved(document: Document, node: Document) -> Document:
    while "$ref" in node:
        target: Json = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node
