"""The page of the HTTP API is made from its OpenAPI description."""

from __future__ import annotations

from pathlib import Path

import yaml

from docs.site.api import METHODS, api_page
from docs.site.build import ROOT

DESCRIPTION = """
openapi: 3.1.0
info: {title: shop, description: Sells milk.}
servers: [{url: http://shop.example}]
paths:
  /buy:
    post:
      operationId: buy
      summary: Buy milk.
      parameters: [{$ref: "#/components/parameters/Id"}]
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: "#/components/schemas/Order"}}}
      responses:
        "200": {description: Bought.}
        "400": {$ref: "#/components/responses/Refused"}
        "404": {$ref: "#/components/responses/Refused"}
components:
  securitySchemes: {key: {type: http, scheme: bearer, description: A key.}}
  parameters:
    Id: {name: X-Id, in: header, description: A|B, schema: {type: string, maxLength: 8}}
  responses:
    Refused:
      description: Why not.
      headers: {Retry-After: {schema: {type: integer}}}
      content: {application/json: {schema: {type: object}}}
  schemas:
    Order:
      type: object
      required: [bottles]
      properties:
        bottles: {type: integer, minimum: 1, maximum: 9, description: How many.}
        kinds: {type: [array, "null"], items: {enum: [whole, oat]}}
"""


def test_a_description_becomes_tables(tmp_path: Path) -> None:
    """The page has operations with parameters, body and answers, then the schemas."""
    (tmp_path / "shop.yaml").write_text(DESCRIPTION)
    lines = api_page(tmp_path / "shop.yaml").splitlines()
    for line in (
        "## POST `/buy` { #buy }",
        "| `X-Id` (header) | string, at most 8 characters | A\\|B |",
        "**Body**: [Order](#schema-order)",
        "| 200 | Bought. |  |",
        "| 400, 404 | Why not. Headers: `Retry-After`. | object |",
        "### Order { #schema-order }",
        "| `bottles` | integer, at least 1, at most 9 | yes | How many. |",
        "| `kinds` | list of one of `whole`, `oat` or null |  |  |",
    ):
        assert line in lines, line


def test_the_page_has_every_operation_and_schema() -> None:
    """The test uses the gateway's own description."""
    path = ROOT / "docs" / "openapi.yaml"
    page, api = api_page(path), yaml.safe_load(path.read_text())
    for route, item in api["paths"].items():
        for method in set(METHODS) & set(item):
            assert f"## {method.upper()} `{route}`" in page
    for name in api["components"]["schemas"]:
        assert f"### {name} " in page
