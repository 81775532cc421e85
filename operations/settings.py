"""How a table of settings is read and refused, and the one table of this floor: a release's bars.

Defaults stand in release.toml. A user's own toml may hold tables of other stages, too.
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
    """What a release must measure at least to be promoted; 0 asks for nothing."""

    hr_at_10: float = Field(ge=0, le=1)
    ndcg_at_10: float = Field(ge=0, le=1)


class _Bars(BaseModel):
    release: ReleaseSettings


def load_bars(path: Path | None = None) -> ReleaseSettings:
    """Read release.toml and lay the [release] table of `path`, a toml with what differs, over it.

    Other tables of `path` are left to the stages that read them. Raises BadSettings, naming every wrong key.
    """
    tables = read_toml(path) if path else {}
    for name in tables:
        if name != RELEASE and difflib.get_close_matches(name, [RELEASE]):
            raise BadSettings(f'settings ({path}) have a table "{name}"; did you mean "{RELEASE}"?')
    own = {name: table for name, table in tables.items() if name == RELEASE}
    return validated(_Bars, merged(read_toml(SHIPPED), own), path).release


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a toml. Raises BadSettings if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadSettings(f"settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"settings file {path} is not toml: {error}") from None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, later layers last; any other value replaces the earlier one whole."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key, {}), Mapping)
            result[key] = merged(result.get(key, {}), value) if both else value
    return result


def validated(model: type[Tables], tables: Mapping[str, Any], source: Path | None) -> Tables:
    """`tables` as a value of `model`.

    Raises BadSettings, naming every wrong key with its table, the known keys and the closest match.
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
    known = sorted(_table_class(model, tables).model_fields)
    where, noun = (f"table [{'.'.join(tables)}]", "key") if tables else ("the settings", "table")
    closest = difflib.get_close_matches(key, known, n=1)
    hint = f'; did you mean "{closest[0]}"?' if closest else "."
    return f'  unknown {noun} "{key}" in {where}{hint} Known: {", ".join(known)}'


def _table_class(model: type[BaseModel], tables: list[str]) -> type[BaseModel]:
    """The class of a (nested) table, by its path in the toml."""
    table_class = model
    for table in tables:
        table_class = table_class.model_fields[table].annotation  # type: ignore[assignment]  # a table's field
    return table_class
