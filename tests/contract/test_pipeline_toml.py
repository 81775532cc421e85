"""pipeline.toml and release.toml: every key has its field, its use in the code, and its reason beside it."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from export_scripts.settings import SHIPPED, Settings
from operations.settings import SHIPPED as BARS

CODE = (SHIPPED.parent, BARS.parent)


def keys(tables: dict, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all keys, e.g. ("data", "columns", "user_id"); an empty table counts as a key."""
    for name, value in tables.items():
        if isinstance(value, dict) and value:
            yield from keys(value, (*before, name))
        else:
            yield (*before, name)


def fields(model: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, (*before, name))
        else:
            yield (*before, name)


FILES = (SHIPPED, BARS)
KEYS = sorted(key for file in FILES for key in keys(tomllib.loads(file.read_text(encoding="utf-8"))))


def test_file_and_classes_have_the_same_keys() -> None:
    """A key without a field would be refused, a field without a key has no default."""
    assert sorted(fields(Settings)) == KEYS


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_key_is_used(path: tuple[str, ...]) -> None:
    """Code outside settings.py uses it, as an attribute or by its name."""
    paths = [path for folder in CODE for path in folder.rglob("*.py") if path.name != "settings.py"]
    code = "\n".join(path.read_text() for path in paths)
    assert re.search(rf"\.{path[-1]}\b|[\"']{path[-1]}[\"']", code)


def test_every_value_has_its_reason() -> None:
    """The reason is a comment on its line."""
    lines = [line for file in FILES for line in file.read_text(encoding="utf-8").splitlines()]
    assert [line for line in lines if "=" in line and "#" not in line] == []
