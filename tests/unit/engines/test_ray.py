"""The engine of Ray where there is no Ray; `make scale` tests it where there is."""

import sys

import pytest

from export_scripts.engines.engine import open_engine
from export_scripts.settings import load_settings
from operations.errors import CestaError


def test_without_ray_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = load_settings(overrides={"engine.name": "ray"})
    with pytest.raises(CestaError, match=r"pip install 'cesta\[ray\]'"), open_engine(settings.engine):
        pass
