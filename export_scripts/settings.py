"""The settings of every stage: pipeline.toml, then a user's own toml, then overrides, as one frozen value.

To add a stage: a table in pipeline.toml, a class here, a field in Settings. Defaults: pipeline.toml only.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from export_scripts.errors import BadSettings

from . import complete_journey

SHIPPED = Path(__file__).with_name("pipeline.toml")
PATHS = (("data", "transactions"), ("data", "products"))  # relative ones count from the file they stand in

Unset = BeforeValidator(lambda value: None if value == "" else value)  # toml has no null
OptionalPath = Annotated[Path | None, Unset]
OptionalName = Annotated[str | None, Unset]


class SettingsTable(BaseModel):
    """One table of pipeline.toml: frozen, every key required, unknown ones refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(SettingsTable):
    """Column names in the transactions table; None is the canonical name."""

    basket_id: OptionalName
    item_id: OptionalName
    user_id: OptionalName
    timestamp: OptionalName
    quantity: OptionalName


class DataSettings(SettingsTable):
    """Where a shop's tables are and how to read them; `transactions` None is the Complete Journey."""

    transactions: OptionalPath
    products: OptionalPath
    products_item_id: OptionalName
    name_columns: tuple[str, ...]
    name_case: Literal["keep", "title"]
    category_columns: tuple[str, ...]
    timestamp_format: str
    missing: tuple[str, ...]
    columns: Columns

    @model_validator(mode="after")
    def _fits_together(self) -> "DataSettings":
        if self.products and not self.transactions:
            raise ValueError("products without transactions: give both, or neither for the Complete Journey")
        for key in ("name_columns", "category_columns"):
            columns: tuple[str, ...] = getattr(self, key)
            if twice := sorted({column for column in columns if columns.count(column) > 1}):
                raise ValueError(f"{key} lists {', '.join(twice)} more than once: list each column once")
        taken = {"item_id", "name"} & set(self.category_columns)
        if taken:
            raise ValueError(
                f"category_columns cannot hold {', '.join(sorted(taken))}: the catalog has it already"
            )
        return self


class EtlSettings(SettingsTable):
    """What the etl stage drops and what it refuses."""

    returns: Literal["refuse", "drop"]
    unlisted: Literal["keep", "drop"]
    basket_hours: float = Field(gt=0)
    drop: dict[str, tuple[str, ...]]


class SplitSettings(SettingsTable):
    """Lengths of the periods at the end of the data, in days."""

    training_days: float = Field(gt=0)
    validation_days: float = Field(gt=0)
    test_days: float = Field(gt=0)
    hidden_per_basket: int = Field(ge=1)


class SamplerSettings(SettingsTable):
    """What the sampler counts, and how many candidates each source may propose."""

    min_support: int = Field(ge=1)
    partners: int = Field(ge=1)
    shrinkage: float = Field(ge=0)
    largest_basket: int = Field(ge=2)
    history_baskets: int = Field(ge=1)
    similar: int = Field(ge=1)
    popular: int = Field(ge=0)
    per_category: int = Field(ge=0)
    basket_categories: int = Field(ge=0)
    fill: int = Field(ge=1)
    cold: int = Field(ge=0, le=100)
    cold_per_content: int = Field(ge=1)
    width: int = Field(ge=1024)
    scan_up_to: int = Field(ge=0)


class RetrievalSettings(SettingsTable):
    """The retrieval tower and its training."""

    dimensions: int = Field(ge=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    uniform_negatives: int = Field(ge=1)
    user_dropout: float = Field(ge=0, lt=1)


class TrainSettings(SettingsTable):
    """The scorer and its training."""

    seed: int
    hidden: tuple[int, ...] = Field(min_length=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    user_dropout: float = Field(ge=0, lt=1)
    hidden_per_basket: int = Field(ge=1)
    cold_share: float = Field(ge=0, le=1)
    recounts: int = Field(ge=1, le=56)
    candidates: int = Field(ge=2)
    drawn_from: int = Field(ge=2)
    price_of_new: float = Field(ge=0, lt=1)
    training_queries: int = Field(ge=1)
    validation_queries: int = Field(ge=1)


class EvaluateSettings(SettingsTable):
    """How the test period is measured."""

    queries: int = Field(ge=1)
    build_queries: int = Field(ge=1)
    full_catalog: int = Field(ge=0)
    bootstrap: int = Field(ge=1)


class ReleaseSettings(SettingsTable):
    """What a release must measure at least to be promoted; 0 asks for nothing."""

    hr_at_10: float = Field(ge=0, le=1)
    ndcg_at_10: float = Field(ge=0, le=1)


class PaperSettings(SettingsTable):
    """`cesta paper`: the NCF paper's own measure on its own files."""

    seed: int
    minutes: float = Field(gt=0)
    negatives: int = Field(ge=1)
    gmf_dimensions: int = Field(ge=1)
    mlp_dimensions: int = Field(ge=1)
    hidden: tuple[int, ...] = Field(min_length=1)
    history: int = Field(ge=1)
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    fine_tuning_rate: float = Field(gt=0)
    l2: float = Field(ge=0)


class Settings(SettingsTable):
    """All of pipeline.toml; one field per table."""

    data: DataSettings
    etl: EtlSettings
    splits: SplitSettings
    sampler: SamplerSettings
    retrieval: RetrievalSettings
    train: TrainSettings
    evaluate: EvaluateSettings
    release: ReleaseSettings
    paper: PaperSettings


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read pipeline.toml, lay `path` (a toml with what differs) and then `overrides` over it.

    Overrides are named "table.key" ({"etl.returns": "drop"}); a value of None leaves the setting alone.
    Without transactions the Complete Journey's own columns and drop list come before the user's toml.
    Raises BadSettings, naming every wrong key with its table, the known keys and the closest match.
    """
    own = _read_toml(Path(path)) if path else {}
    last = _nested(overrides or {})
    chosen = merged(_read_toml(SHIPPED), own, last)
    if _is_complete_journey(chosen):
        chosen = merged(_read_toml(SHIPPED), complete_journey.OVERLAY, own, last)
    try:
        return Settings.model_validate(chosen)
    except ValidationError as error:
        source = f" ({Path(path).name})" if path else ""
        raise BadSettings("\n".join([f"settings{source} cannot be used:", *_explained(error)])) from None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, later layers last; any other value replaces the earlier one whole."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key, {}), Mapping)
            result[key] = merged(result.get(key, {}), value) if both else value
    return result


def _is_complete_journey(chosen: Mapping[str, Any]) -> bool:
    data = chosen["data"]  # anything else than a table is left for the validation to refuse
    return isinstance(data, Mapping) and not data["transactions"]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadSettings(f"settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"settings file {path} is not toml: {error}") from None
    for table, key in PATHS:
        value = tables.get(table, {}).get(key) if isinstance(tables.get(table), dict) else None
        if isinstance(value, str) and value:
            tables[table][key] = str(path.parent / value)  # an absolute value stays as it is
    return tables


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """{"etl.returns": "drop"} → {"etl": {"returns": "drop"}}"""
    result: dict[str, Any] = {}
    for name, value in overrides.items():
        if value is None:
            continue
        *tables, key = name.split(".")
        layer: dict[str, Any] = {key: value}
        for table in reversed(tables):
            layer = {table: layer}
        result = merged(result, layer)
    return result


def _explained(error: ValidationError) -> list[str]:
    return [_explain(entry["loc"], entry["type"], entry["msg"], entry["input"]) for entry in error.errors()]


def _explain(loc: tuple[int | str, ...], kind: str, message: str, value: object) -> str:
    *tables, key = [str(part) for part in loc] or ["settings"]
    if kind == "tuple_type":
        return f'  {".".join([*tables, key])}: write a list, as in ["{value}"]'
    if kind != "extra_forbidden":
        return f"  {'.'.join([*tables, key])}: {message.removeprefix('Value error, ')}" + (
            f" (it is {value!r})" if not isinstance(value, Mapping | BaseModel) else ""
        )
    known = sorted(_table_class(tables).model_fields)
    where, noun = (f"table [{'.'.join(tables)}]", "key") if tables else ("the settings", "table")
    closest = difflib.get_close_matches(key, known, n=1)
    hint = f'; did you mean "{closest[0]}"?' if closest else "."
    return f'  unknown {noun} "{key}" in {where}{hint} Known: {", ".join(known)}'


def _table_class(tables: list[str]) -> type[BaseModel]:
    """The class of a (nested) table, by its path in the toml."""
    found: type[BaseModel] = Settings
    for table in tables:
        found = found.model_fields[table].annotation  # type: ignore[assignment]
    return found
