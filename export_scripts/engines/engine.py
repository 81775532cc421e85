"""Opens the engine that the settings name."""

from contextlib import AbstractContextManager
from typing import Final

from export_scripts.engines.interface import Engine
from export_scripts.engines.local import open_local
from export_scripts.engines.ray import open_ray
from export_scripts.settings import EngineSettings

LOCAL: Final = "local"


def open_engine(settings: EngineSettings) -> AbstractContextManager[Engine]:
    """Return the engine that ``settings`` name; its workers end with the block."""
    return open_local(settings.workers, settings.patience) if settings.name == LOCAL else open_ray(settings)
