"""Settings with which a small shop is built in seconds."""

from typing import Any

from export_scripts.settings import Settings, load_settings

CHEAP: dict[str, Any] = {
    "retrieval.epochs": 1,
    "retrieval.dimensions": 8,
    "retrieval.uniform_negatives": 16,
    "train.epochs": 2,
    "evaluate.bootstrap": 20,
}


def settings_of(tables: dict[str, object], **changes: object) -> Settings:
    return load_settings(overrides=CHEAP | tables | changes)
