"""Reads and checks tables of settings. The only table on this floor holds the bars of a release.

release.toml has the defaults. A user's own toml may have tables of other stages, too.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from operations.errors import BadSettings

RELEASE: Final = "release"
SHIPPED: Final = Path(__file__).with_name("release.toml")


Tables = TypeVar("Tables", bound=BaseModel)


class SettingsTable(BaseModel):
    """One table of a toml: frozen, every key required, unknown ones refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleaseSettings(SettingsTable):
    """What a release needs to be promoted: the least metrics, 0 for none; what may be lost, 1 for all.

    ``lost_day`` is the least share of a day's usual baskets, 0 for none.
    """

    hr_at_10: float = Field(ge=0, le=1)
    ndcg_at_10: float = Field(ge=0, le=1)
    lost_category: float = Field(ge=0, le=1)
    lost_categories: float = Field(ge=0, le=1)
    worse: float = Field(ge=0, le=1)
    uncertain: float = Field(ge=0)
    collapse: float = Field(ge=0, le=1)
    lost_receipts: float = Field(ge=0, le=1)
    lost_customers: float = Field(ge=0, le=1)
    lost_sales: float = Field(ge=0, le=1)
    lost_day: float = Field(ge=0, le=1)
    closed_days: tuple[str, ...]
    strangers: float = Field(ge=0, le=1)


class _Bars(BaseModel):
    release: ReleaseSettings


def load_bars(path: Path | None = None) -> ReleaseSettings:
    """Read release.toml, and override its values with the [release] table of the toml at `path`.

    Other tables of `path` belong to other stages. Raises BadSettings, which names every wrong key.
    """
    tables = read_toml(path) if path else {}
    for name in tables:
        if name != RELEASE and difflib.get_close_matches(name, [RELEASE]):
            raise BadSettings(f'settings ({path}) have a table "{name}"; did you mean "{RELEASE}"?')
    overrides = {name: table for name, table in tables.items() if name == RELEASE}
    return validated(_Bars, merged(read_toml(SHIPPED), overrides), path).release


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a toml. Raises BadSettings if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadSettings(f"settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"settings file {path} is not toml: {error}") from None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables key by key; a later layer wins. A value that is not a table replaces the earlier value."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key, {}), Mapping)
            result[key] = merged(result.get(key, {}), value) if both else value
    return result


def validated(model: type[Tables], tables: Mapping[str, Any], source: Path | None) -> Tables:
    """Return `tables` as a value of `model`.

    Raises BadSettings, which names every wrong key with its table, the known keys and the closest match.
    """
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        where = f" ({source.name})" if source else ""
        lines = [_explain(model, e["loc"], e["type"], e["msg"], e["input"]) for e in error.errors()]
        raise BadSettings("\n".join([f"settings{where} cannot be used:", *lines])) from None


def _explain(
    model: type[BaseModel], loc: tuple[int | str, ...], kind: str, message: str, value: object
) -> str:
    *tables, key = [str(part) for part in loc] or ["settings"]
    if kind == "tuple_type":
        return f'  {".".join([*tables, key])}: write a list, as in ["{value}"]'
    if kind != "extra_forbidden":
        return f"  {'.'.join([*tables, key])}: {message.removeprefix('Value error, ')}" + (
            f" (it is {value!r})" if not isinstance(value, Mapping | BaseModel) else ""
        )
    names = sorted(_table_class(model, tables).model_fields)
    where, noun = (f"table [{'.'.join(tables)}]", "key") if tables else ("the settings", "table")
    closest = difflib.get_close_matches(key, names, n=1)
    hint = f'; did you mean "{closest[0]}"?' if closest else "."
    return f'  unknown {noun} "{key}" in {where}{hint} Known: {", ".join(names)}'


def _table_class(model: type[BaseModel], tables: list[str]) -> type[BaseModel]:
    """Return the class of a (nested) table, by its path in the toml."""
    table_class = model
    for table in tables:
        table_class = table_class.model_fields[table].annotation  # type: ignore[assignment]  # a table's field
    return table_class
