"""The settings of every stage: pipeline.toml, then a user's own toml, then overrides, as one frozen value.

To add a setting, add a key to pipeline.toml and a field to its class here. To add a stage, add a table, a
class and a field of Settings. The defaults of [release] are in operations/release.toml: `cesta release
promote` reads them where export_scripts is not installed.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from export_scripts import complete_journey
from operations.drift.features import BY_NAME as FEATURES_BY_NAME
from operations.settings import SHIPPED as BARS
from operations.settings import ReleaseSettings, SettingsTable, merged, read_toml, validated

MOST_EXPLORE = 10  # log odds: at 10 every new item stands before every repeat
LEAST_PERCENT = 0.01  # of a canary release, as in operations.releases.canary; nginx splits by this
SHIPPED = Path(__file__).with_name("pipeline.toml")
# Relative to their file.
PATHS = (
    ("data", "transactions"),
    ("data", "products"),
    ("data", "stores"),
    ("etl", "spill"),
)

Unset = BeforeValidator(lambda value: None if value == "" else value)  # toml has no null
OptionalTable = Annotated[Path | str | None, BeforeValidator(lambda value: _place(value))]
OptionalName = Annotated[str | None, Unset]
Positive = Annotated[float, Field(gt=0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(lambda bounds: _ascending(bounds))]
Key = tuple[Annotated[str, Field(min_length=1)], ...]  # columns whose values together name one thing


class Columns(SettingsTable):
    """Column names in the transactions table; None means the name of the field.

    A basket may have a key of several columns. Items, users and stores have one: requests name them.
    """

    basket_id: Annotated[str | Key | None, Unset]
    item_id: OptionalName
    user_id: OptionalName
    store_id: OptionalName
    timestamp: OptionalName
    quantity: OptionalName

    @field_validator("basket_id", mode="before")
    @classmethod
    def _lists_columns(cls, value: object) -> object:
        if value is not None and not isinstance(value, str):
            if not isinstance(value, list | tuple) or not all(isinstance(n, str) and n for n in value or [0]):
                raise ValueError('write one name, or a list of names, as in ["till", "receipt"]')
            if repeated := sorted({name for name in value if value.count(name) > 1}):
                raise ValueError(f"it lists {', '.join(repeated)} more than once: list each column once")
        return value

    @field_validator("item_id", "user_id", "store_id", mode="before")
    @classmethod
    def _is_one_column(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            raise ValueError("name one column: requests name items, users and stores by its values")
        return value


class DataSettings(SettingsTable):
    """The places of a shop's tables and how to read them; `transactions` None means the Complete Journey."""

    transactions: OptionalTable
    products: OptionalTable
    stores: OptionalTable
    region_column: OptionalName
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
        if self.region_column and not self.stores:
            raise ValueError("region_column names a column of the table of stores: give stores, too")
        for key in ("name_columns", "category_columns"):
            columns: tuple[str, ...] = getattr(self, key)
            if repeated := sorted({column for column in columns if columns.count(column) > 1}):
                raise ValueError(f"{key} lists {', '.join(repeated)} more than once: list each column once")
        taken = {"item_id", "name"} & set(self.category_columns)
        if taken:
            raise ValueError(
                f"category_columns cannot hold {', '.join(sorted(taken))}: the catalog has it already"
            )
        return self


class EtlSettings(SettingsTable):
    """The lines that the etl stage drops and those that it refuses."""

    returns: Literal["refuse", "drop"]
    unlisted: Literal["keep", "drop"]
    basket_hours: float = Field(gt=0)
    memory: str = Field(pattern=r"^[0-9]+(\.[0-9]+)? ?[KMGT]i?B$")
    spill: Annotated[Path | None, Unset]
    parts: bool
    drop: dict[str, tuple[str, ...]]


class SplitSettings(SettingsTable):
    """Lengths in days of the periods at the end of the data, and how many items of a basket are hidden."""

    training_days: float = Field(gt=0)
    longest_training_days: float = Field(gt=0)
    training_questions: int = Field(ge=0)
    validation_days: float = Field(gt=0)
    test_days: float = Field(gt=0)
    hidden_per_basket: int = Field(ge=1)


class SamplerSettings(SettingsTable):
    """The counts of the candidate sampler, and the limit on the candidates of each source."""

    min_support: int = Field(ge=1)
    partners: int = Field(ge=1)
    shrinkage: float = Field(ge=0)
    largest_basket: int = Field(ge=2)
    history_baskets: int = Field(ge=1)
    similar: int = Field(ge=0)
    popular: int = Field(ge=0)
    per_category: int = Field(ge=0)
    basket_categories: int = Field(ge=0)
    fill: int = Field(ge=1)
    cold: int = Field(ge=0, le=100)
    cold_per_content: int = Field(ge=1)
    width: int = Field(ge=1024)
    scan_up_to: int = Field(ge=0)


class StoresSettings(SettingsTable):
    """Settings of what sells in each store, for shops whose receipts name stores."""

    smoothing: float = Field(gt=0)
    days: float = Field(gt=0)
    assortment: Literal["off", "prior", "only"]
    least_baskets: int = Field(ge=1)
    dropout: float = Field(ge=0, le=1)


class RetrievalSettings(SettingsTable):
    """The retrieval tower and its training."""

    dimensions: int = Field(ge=1)
    epochs: int = Field(ge=1)
    most_steps: int = Field(ge=1)
    heavy_users: float = Field(ge=0, le=1)
    continued: float = Field(gt=0, le=1)
    warm_starts: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    uniform_negatives: int = Field(ge=1)
    user_dropout: float = Field(ge=0, lt=1)


class TrainSettings(SettingsTable):
    """The scorer and its training."""

    seed: int
    users: Annotated[Annotated[int, Field(ge=1)] | None, Unset]
    hidden: tuple[int, ...] = Field(min_length=1)
    epochs: int = Field(ge=1)
    questions_seen: int = Field(ge=1)
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


class RankingSettings(SettingsTable):
    """How a release orders its lists. A change needs no training."""

    explore: float | Literal["auto"]

    @field_validator("explore", mode="before")
    @classmethod
    def _is_number_or_auto(cls, value: object) -> object:
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.inf
        if value != "auto" and not -MOST_EXPLORE <= number <= MOST_EXPLORE:
            raise ValueError(
                f'write "auto", or a number from {-MOST_EXPLORE} (bought before comes first) '
                f"to {MOST_EXPLORE} (new to the customer comes first)"
            )
        return value


class EvaluateSettings(SettingsTable):
    """The measurement of the test period."""

    queries: int = Field(ge=1)
    build_queries: int = Field(ge=1)
    full_catalog: int = Field(ge=0)
    bootstrap: int = Field(ge=1)


class DriftSettings(SettingsTable):
    """What a release keeps of its receipts, and the thresholds beyond which later ones have drifted."""

    weeks: int = Field(ge=1, le=52)
    calibration_weeks: int = Field(ge=0, le=104)
    questions: int = Field(ge=1)
    margin: float = Field(ge=1)
    least: float = Field(ge=0, le=1)
    uncalibrated: float = Field(ge=0, le=1)
    timezone: str
    thresholds: dict[str, Annotated[float, Field(ge=0, le=1)]]

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            if name:
                raise ValueError('no such time zone; write a name such as "Europe/Berlin"') from None
        return name

    @field_validator("thresholds")
    @classmethod
    def _are_of_features(cls, thresholds: dict[str, float]) -> dict[str, float]:
        for name in thresholds:
            if name not in FEATURES_BY_NAME:
                raise ValueError(f'"{name}" is no feature; the features are {", ".join(FEATURES_BY_NAME)}')
        return thresholds


class EngineSettings(SettingsTable):
    """Where the partitions of a stage are computed. Only the bits of the tower depend on it: on `workers`."""

    name: Literal["local", "ray"]
    workers: int = Field(ge=1)
    retries: int = Field(ge=0)
    patience: float = Field(gt=0)
    address: str = Field(min_length=1)


class RetrainSettings(SettingsTable):
    """The schedule of `cesta retrain`, and what a canary release may do worse."""

    every_days: float = Field(gt=0, le=366)
    percent: float = Field(ge=0, le=99.99)
    minutes: float = Field(ge=0, le=30 * 24 * 60)
    least_requests: int = Field(ge=1)
    errors: float = Field(ge=0, le=1)
    slow: float = Field(ge=0, le=1)
    unknown_items: float = Field(ge=0, le=1)
    undecided: Literal["promote", "end", "wait"]
    keep: int = Field(ge=2)

    @field_validator("percent")
    @classmethod
    def _can_be_split(cls, percent: float) -> float:
        if 0 < percent < LEAST_PERCENT:
            raise ValueError(f"requests are split by hundredths: give 0, or at least {LEAST_PERCENT}")
        return percent


class PaperSettings(SettingsTable):
    """`cesta paper`: the NCF paper's own measure on its own files."""

    seed: int
    minutes: float = Field(gt=0)
    candidates: int = Field(ge=1)
    first_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    negatives: int = Field(ge=1)
    gmf_negatives: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    gmf_dimensions: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    mlp_dimensions: tuple[Annotated[int, Field(ge=2)], ...] = Field(min_length=1)
    gmf_rates: Range
    rates: Range
    l2: Range
    fine_tuning_rates: Range
    alphas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    batch_size: int = Field(ge=1)
    history: int = Field(ge=1)


class Settings(SettingsTable):
    """All tables of pipeline.toml and release.toml, one field each."""

    data: DataSettings
    etl: EtlSettings
    splits: SplitSettings
    sampler: SamplerSettings
    stores: StoresSettings
    retrieval: RetrievalSettings
    train: TrainSettings
    ranking: RankingSettings
    evaluate: EvaluateSettings
    release: ReleaseSettings
    drift: DriftSettings
    engine: EngineSettings
    retrain: RetrainSettings
    paper: PaperSettings


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the defaults, then the toml in `path`, then `overrides`; later values replace earlier ones.

    Overrides are named "table.key", as in {"etl.returns": "drop"}; a value of None changes nothing. Without
    transactions, the columns and the drop list of the Complete Journey come between defaults and `path`.
    Raises BadSettings, which names every wrong key with its table, the known keys and the closest match.
    """
    from_file = _read_tables(path) if path else {}
    from_overrides = _nested(overrides or {})
    defaults = merged(_read_tables(SHIPPED), read_toml(BARS))
    tables = merged(defaults, from_file, from_overrides)
    if _is_complete_journey(tables):
        tables = merged(defaults, complete_journey.OVERLAY, from_file, from_overrides)
    return validated(Settings, tables, path)


def _is_complete_journey(tables: Mapping[str, Any]) -> bool:
    data = tables["data"]  # the validation refuses anything but a table
    return isinstance(data, Mapping) and not data["transactions"]


def _read_tables(path: Path) -> dict[str, Any]:
    """Read the tables of a toml, with relative paths joined to the folder of the file."""
    tables = read_toml(path)
    for table, key in PATHS:
        value = tables.get(table, {}).get(key) if isinstance(tables.get(table), dict) else None
        if isinstance(value, str) and isinstance(_place(value), Path):
            tables[table][key] = str(path.parent / value)  # an absolute path stays as it is
    return tables


def _place(value: object) -> object:
    """Return a Path, the URL of a bucket as text, or None for what is not set."""
    if value == "":
        return None
    return Path(value) if isinstance(value, str) and "://" not in value else value


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{bounds[0]:g} is above {bounds[1]:g}: write the smaller one first")
    return bounds


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"etl.returns": "drop"} into {"etl": {"returns": "drop"}}."""
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
