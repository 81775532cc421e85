"""OpenAPI description → one page of Markdown: each operation with its body and answers, then the schemas."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

Described = Mapping[str, Any]  # a part of the description, as YAML reads it

METHODS: Final = ("get", "post", "put", "patch", "delete")
JSON: Final = "application/json"
LIMITS: Final = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "pattern": "matches `{}`",
    "default": "default {}",
}


def api_page(path: Path) -> str:
    """The page of the description in ``path``, an OpenAPI 3.1 document whose references stay inside it."""
    api: Described = yaml.safe_load(path.read_text(encoding="utf-8"))
    return "\n".join([*_introduction(api, path.name), *_operations(api), *_schemas(api)])


def _introduction(api: Described, name: str) -> Iterator[str]:
    yield f"# {api['info']['title']}: the HTTP API\n"
    yield f"{api['info']['description']}\n"
    yield f"This page is made from [{name}]({name}), which programs can read. Bodies are JSON.\n"
    yield "| | |\n|---|---|"
    yield f"| server | {', '.join(_code(server['url']) for server in api['servers'])} |"
    for scheme in api["components"]["securitySchemes"].values():
        yield f"| key | `Authorization: {scheme['scheme'].title()} …`; {_cell(scheme['description'])} |"
    yield ""


def _operations(api: Described) -> Iterator[str]:
    for path, item in api["paths"].items():
        for method in METHODS:
            if method in item:
                yield from _operation(api, f"{method.upper()} `{path}`", item, item[method])


def _operation(api: Described, title: str, item: Described, operation: Described) -> Iterator[str]:
    yield f"## {title} {{ #{operation['operationId']} }}\n"
    yield f"{operation['summary']}\n"
    if "description" in operation:
        yield f"{operation['description']}\n"
    parameters = [_resolved(api, p) for p in (*item.get("parameters", ()), *operation.get("parameters", ()))]
    if parameters:
        yield "**Parameters**\n\n| name | value | |\n|---|---|---|"
        for p in parameters:
            about = _cell(p.get("description", ""))
            yield f"| {_code(p['name'])} ({p['in']}) | {_type(p['schema'])} | {about} |"
        yield ""
    if body := operation.get("requestBody"):
        yield f"**Body**{'' if body['required'] else ', optional'}: {_content(body)}\n"
        yield from _fields(_only_schema(body))
    yield "**Answers**\n\n| status | | body |\n|---|---|---|"
    for statuses, response in _grouped(api, operation["responses"]):
        body = _content(response) if "content" in response else ""
        yield f"| {statuses} | {_cell(response['description'])}{_headers(response)} | {body} |"
    yield ""


def _grouped(api: Described, responses: Described) -> Iterator[tuple[str, Described]]:
    """Statuses that share a response stand in one row, in the order of the first."""
    groups: dict[str, list[str]] = {}
    for status, response in responses.items():
        groups.setdefault(str(response), []).append(status)
    for statuses in groups.values():
        yield ", ".join(statuses), _resolved(api, responses[statuses[0]])


def _headers(response: Described) -> str:
    names = ", ".join(_code(name) for name in response.get("headers", ()))
    return f" Headers: {names}." if names else ""


def _schemas(api: Described) -> Iterator[str]:
    yield "## Schemas\n"
    for name, schema in api["components"]["schemas"].items():
        yield f"### {name} {{ #{_anchor(name)} }}\n"
        yield f"{_type(schema)}.\n"
        yield from _fields(schema)


def _fields(schema: Described) -> Iterator[str]:
    """A table of an object's properties; nothing for another schema."""
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        yield "| field | value | required | |\n|---|---|---|---|"
        for name, value in properties.items():
            needed = "yes" if name in required else ""
            yield f"| {_code(name)} | {_type(value)} | {needed} | {_cell(value.get('description', ''))} |"
        yield ""


def _content(message: Described) -> str:
    """The type of a body. JSON is said once, in the introduction."""
    (kind,) = message["content"]
    words = _type(_only_schema(message))
    return words if kind == JSON else f"{_code(kind)}, {words}"


def _only_schema(message: Described) -> Described:
    (content,) = message["content"].values()
    schema: Described = content["schema"]
    return schema


def _type(schema: Described) -> str:
    """A schema in words, with a link to each schema that it refers to."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    words = [_kind(schema)]
    words += [text.format(_cell(str(schema[key]))) for key, text in LIMITS.items() if key in schema]
    return ", ".join(words)


def _kind(schema: Described) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(_code(value) for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "array" in kinds:
        of = f"list of {_type(schema['items'])}"
        return " or ".join(of if kind == "array" else kind for kind in kinds)
    values = schema.get("additionalProperties")
    return f"object; each value: {_type(values)}" if isinstance(values, dict) else " or ".join(kinds)


def _resolved(api: Described, described: Described) -> Described:
    """The target of a reference, or the thing itself."""
    if "$ref" not in described:
        return described
    target = api
    for part in described["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def _anchor(name: str) -> str:
    return f"schema-{name.lower()}"


def _code(value: object) -> str:
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()
