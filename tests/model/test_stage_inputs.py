"""A stage reads no settings that its inputs leave out: a change of them would not run it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export_scripts import build as build_module
from export_scripts.build import build
from export_scripts.freshness.inputs import STAGES, Inputs
from export_scripts.settings import Settings
from operations.outputs import Outputs
from operations.settings import SettingsTable
from tests.building.cheap_builds import settings_of
from tests.building.shops import make_shop

READ: set[str] = set()
WITHOUT_EFFECT = {  # etl only words a hint with it; any engine gives the same bytes
    "etl": {"sampler", "engine"},
    **{stage: {"engine"} for stage in ("train", "evaluate", "export")},
}


class WatchedSettings(Settings):
    """Settings that note in READ which of their tables code asks for."""

    def __getattribute__(self, name: str) -> Any:
        if name in Settings.model_fields:
            READ.add(name)
        return super().__getattribute__(name)


def tables_among(parts: list[Any]) -> set[str]:
    types = {type(part) for part in parts if isinstance(part, SettingsTable)}
    return {name for name, field in Settings.model_fields.items() if field.annotation in types}


def test_a_stage_reads_only_settings_among_its_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop(tmp_path / "shop", np.random.default_rng(1), baskets=100)
    settings = WatchedSettings.model_validate(settings_of(shop.overrides()).model_dump())
    read: dict[str, set[str]] = {}

    def watched(stage: str, work: Callable[..., Path]) -> Callable[..., Path]:
        def call(*values: Any, **named: Any) -> Path:
            READ.clear()
            result = work(*values, **named)
            read[stage] = READ.copy()
            return result

        return call

    for stage in STAGES:
        monkeypatch.setattr(build_module, stage, watched(stage, getattr(build_module, stage)))
    build(settings, tmp_path / "out")
    inputs = Inputs(settings, Outputs(tmp_path / "out"))
    for stage in STAGES:
        assert read[stage] >= {"sampler"}
        covered = tables_among(getattr(inputs, stage)()) | WITHOUT_EFFECT.get(stage, set())
        assert read[stage] - covered == set(), stage
