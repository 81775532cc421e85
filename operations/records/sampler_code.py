"""The sampler's modules, of which every release holds a copy."""

import shutil
from pathlib import Path

from operations.errors import CestaError
from operations.records import file_record, manifest
from operations.shipped import ROOT

SAMPLER_CODE = ROOT / "ensemble" / "candidate_sampler"


def sampler_code() -> dict[str, file_record.FileRecord]:
    """The sampler's modules by name."""
    return file_record.describe(SAMPLER_CODE.rglob("*.py"), SAMPLER_CODE)


def check_sampler_code(run: manifest.RunManifest) -> None:
    """Raise CestaError if a run's golden answers were made with other code than would be published."""
    if run.sampler_code is None:
        raise CestaError(f'the manifest of the run has no key "sampler_code"; {run.WAY_OUT}')
    if run.sampler_code != file_record.digest(sampler_code()):
        raise CestaError(f"{SAMPLER_CODE.name} was changed since the export; {run.WAY_OUT}")


def copy_sampler_code(folder: Path) -> None:
    """Copy the sampler's modules into ``folder``."""
    for name in sampler_code():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy2(SAMPLER_CODE / name, folder / name)
