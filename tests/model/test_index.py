"""The index of the tower's vectors, in a shop that has its counted items searched."""

from pathlib import Path

import numpy as np
import pytest

from export_scripts.build import build
from export_scripts.export import export
from operations.errors import CestaError
from operations.outputs import Outputs
from operations.records import manifest
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import open_repository
from tests.building.cheap_builds import settings_of
from tests.building.shops import make_shop


def test_an_index_is_part_of_the_release(tmp_path: Path) -> None:
    """A shop above sampler.scan_up_to gets one, if the tower is asked. It is listed, described, the same when
    exported again, and checked by its hash.
    """
    searched = {"sampler.scan_up_to": 10, "sampler.similar": 10}
    tables = make_shop(tmp_path / "shop", np.random.default_rng(1)).overrides()
    out, settings = Outputs(tmp_path / "out"), settings_of(tables, **searched)
    assert build(settings, out.root) == 1
    described = manifest.verify_run(out.run)
    name = "arrays/nearest.similar.faiss"
    assert described.nearest["similar"]["lists"] > 0
    assert described.nearest["similar"]["recall"] >= 0.98
    export(settings, out.data, out.checkpoint, out.metrics, out.run)
    assert manifest.verify_run(out.run).files[name] == described.files[name]
    published = out.repository / "candidate_sampler" / "1" / name
    repository = open_repository(out.repository)
    assert verify_release(repository, 1).files[f"candidate_sampler/1/{name}"] == described.files[name]
    published.write_bytes(published.read_bytes()[:-1] + b"?")
    with pytest.raises(CestaError, match=r"nearest\.similar\.faiss is not what the manifest lists"):
        verify_release(repository, 1)
