"""`cesta score` where release, list and result lie in a bucket."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export_scripts.score import Wanted, score
from export_scripts.scoring import partition
from export_scripts.scoring.questions import Asked
from export_scripts.scoring.release import open_release
from export_scripts.scoring.results import partition_name
from export_scripts.settings import load_settings
from operations.errors import CestaError
from operations.records.object_path import ObjectPath
from operations.releases.mirror.local_files import FOLDER_VARIABLE
from operations.releases.stores.store import open_repository
from tests.building.scored import publish_release, random_scorer
from tests.building.world import arrays_of, random_shop
from tests.running.s3 import S3

K = 7


def test_release_list_and_result_lie_in_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3
) -> None:
    """Another machine, whose mirror is empty, fetches the same release, and refuses another one."""
    bucket = f"s3://{s3.bucket()}"
    place, shop = ObjectPath.at(bucket), random_shop(np.random.default_rng(4), 20, 2, 10)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "here"))
    repository = open_repository(f"{bucket}/releases")
    publish_release(tmp_path, shop, arrays_of(shop), random_scorer(3, 21), repository, width=64)
    (place / "users.csv").write_text("user_id\nu2\nu1\n")
    manifest = score(load_settings(), repository, f"{bucket}/scores/", Wanted(K, users=f"{bucket}/users.csv"))
    assert (manifest.rows, manifest.source) == (2 * K, f"{bucket}/users.csv")
    written = (place / "scores" / partition_name(0)).read_bytes()
    with open_release(repository, None) as files:
        monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "there"))
        there = replace(files, graph=tmp_path / "unseen", arrays=tmp_path / "unseen")
        assert there.here().graph.is_relative_to(tmp_path / "there")
        facts = partition.Facts.model_validate(
            {name: getattr(manifest, name) for name in partition.Facts.model_fields}
        )
        asked = Asked(0, ["u1", "u2"], ["u1", "u2"], [[], []])
        assert partition.score_partition(partition.Shared(there, facts), asked).content == written
        with pytest.raises(CestaError, match=r"release 1 is another one than when scoring began; run again"):
            replace(there, digest="0").here()
