"""The manifest's list of files, and the check of files against it."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from export_scripts import provenance
from operations.errors import CestaError
from operations.records import file_record, manifest
from operations.records.file_record import FileRecord
from operations.records.manifest import ReleaseManifest, RunManifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "arrays").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "arrays" / "a.npy").write_bytes(b"abc")
    files = file_record.describe(folder.rglob("*"), folder)
    manifest.write(RunManifest.model_validate(made(files) | {"name": "café"}), folder)
    return folder


def made(files: object = None) -> dict[str, object]:
    """The keys that every run's manifest has."""
    return {"contract": {"answers": 2}, "golden": [], "digest": "d", "files": files or {}}


def test_files_are_listed_by_relative_path(run: Path) -> None:
    """SHA-256 of "abc" is a test vector of FIPS 180."""
    listed = RunManifest.read(run / "manifest.json").files
    assert list(listed) == ["arrays/a.npy", "model.onnx"]
    assert listed["arrays/a.npy"] == FileRecord(
        sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", bytes=3
    )


def test_a_whole_run_is_verified(run: Path) -> None:
    assert manifest.verify_run(run).json_object()["name"] == "café"


def test_a_flipped_byte_is_found(run: Path) -> None:
    """The length is the same, so only the digest differs. The sentence names the file and the way out."""
    (run / "arrays" / "a.npy").write_bytes(b"abd")
    with pytest.raises(CestaError, match=r'a\.npy is not what the manifest lists .*run "cesta export" again'):
        manifest.verify_run(run)


def test_a_missing_file_is_found(run: Path) -> None:
    (run / "model.onnx").unlink()
    with pytest.raises(CestaError, match=r"model\.onnx is missing"):
        manifest.verify_run(run)


@pytest.mark.parametrize("name", ["notes.txt", "arrays/manifest.json"])
def test_a_stranger_is_found(run: Path, name: str) -> None:
    """A server might load a file that is not listed; a manifest in another folder is one, too."""
    (run / name).write_text("{}")
    with pytest.raises(CestaError, match=re.escape(f"{name} is not in the manifest; remove it")):
        manifest.verify_run(run)


def test_no_run_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r'no run in .*run "cesta export" first'):
        manifest.verify_run(tmp_path)


def test_a_damaged_manifest_is_one_sentence(run: Path) -> None:
    (run / "manifest.json").write_text('{"files": {')
    with pytest.raises(CestaError, match=r"manifest\.json is damaged"):
        manifest.verify_run(run)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"golden": None}, r'the key "golden" is None: '),
        ({"files": {"a.npy": {"bytes": 3}}}, r'the key "files\.a\.npy\.sha256" is missing'),
        ({"digest": 7}, r'the key "digest" is 7: '),
        ({"golden": [{"request": {"basket": []}}]}, r'the key "golden\.0\.answer" is missing'),
        (
            {"metrics": {"known": {"n": "many"}}},
            r'the key "metrics" is .*: in known, the key "n" is \'many\': ',
        ),
    ],
)
def test_a_wrong_key_is_one_sentence(run: Path, change: dict[str, object], sentence: str) -> None:
    """It names the file, the key, the value and the way out."""
    (run / "manifest.json").write_text(json.dumps(made() | change))
    with pytest.raises(
        CestaError, match=rf'^\S+manifest\.json is damaged: {sentence}.*; run "cesta export" again$'
    ):
        manifest.verify_run(run)


def test_a_missing_key_is_one_sentence(run: Path) -> None:
    for key in made():
        content = made()
        del content[key]
        (run / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(CestaError, match=rf'manifest\.json is damaged: the key "{key}" is missing; run'):
            manifest.verify_run(run)


def test_only_an_object_is_a_manifest(run: Path) -> None:
    (run / "manifest.json").write_text("[]")
    with pytest.raises(CestaError, match=r"manifest\.json is damaged: it holds no JSON object"):
        manifest.verify_run(run)


WRITTEN = {  # in the order in which cesta writes the keys
    "release": 7,
    "created_at": "2026-11-29T19:30:51+00:00",
    "data": {"fingerprint": "f", "first": "2017-01-01", "last": "2018-01-01", "baskets": 9, "sold_in": "EUR"},
    "contract": {"basket_slots": 2, "answers": 2, "inputs": {"basket": ["STRING", [-1]]}},
    "metrics": {"checkpoint": "c", "known": {"mrr": 0.5, "interval": None, "n": 0}, "baselines": {}},
    "golden": [
        {
            "request": {"basket": ["é"], "user_id": ""},
            "answer": {"item_ids": [""], "scores": [-0.0], "reasons": [8]},
        }
    ],
    "settings": {"train": {"hidden": [48, 16], "rate": 1e-06}},
    "git_commit": None,
    "made_with": {"python": "3.11.7"},
    "nearest": {"similar": {"vectors": 2, "recall": 1.0}},
    "sampler_code": "s",
    "digest": "d",
    "files": {"ncf_scorer/7/model.onnx": {"sha256": "1", "bytes": 1, "license": "MIT"}},
    "signed_by": {"key": ["of", "another", "version"]},
}


def test_what_is_read_is_written_again_byte_by_byte(tmp_path: Path) -> None:
    """Order of keys, values of null, missing keys and the keys of other versions, at every level."""
    text = json.dumps(WRITTEN, indent=2, ensure_ascii=False) + "\n"
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    manifest.write(ReleaseManifest.read(tmp_path / "manifest.json"), tmp_path)
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == text


def test_publishing_makes_a_release_of_a_run() -> None:
    """The number and the moment come first; all else is the run's, except where the files lie."""
    run = {key: value for key, value in WRITTEN.items() if key not in ("release", "created_at")}
    moved = {"elsewhere": FileRecord(sha256="1", bytes=1)}
    release = RunManifest.model_validate(run).published(8, "now", moved)
    assert (release.release, release.created_at, release.files) == (8, "now", moved)
    expected = (
        {"release": 8, "created_at": "now"} | run | {"files": {"elsewhere": {"sha256": "1", "bytes": 1}}}
    )
    assert release.json_text() == json.dumps(expected, indent=2, ensure_ascii=False) + "\n"


def test_a_manifest_cannot_be_changed(run: Path) -> None:
    described = manifest.verify_run(run)
    with pytest.raises(ValueError, match="frozen"):
        described.digest = "another"


def test_a_manifest_of_an_older_version_lacks_keys() -> None:
    """None says so."""
    described = RunManifest.model_validate(made())
    assert (described.data, described.metrics, described.sampler_code) == (None, None, None)
    assert described.measured("known").hr_at_10 is None


def test_digest_is_of_names_and_contents_only() -> None:
    """The order does not matter; a name or a content does."""
    one = {"a": FileRecord(sha256="1", bytes=1), "b": FileRecord(sha256="2", bytes=1)}
    assert file_record.digest(one) == file_record.digest(dict(reversed(one.items())))
    assert file_record.digest(one) != file_record.digest({"a": one["b"], "b": one["a"]})


def test_versions_are_recorded() -> None:
    made_with = provenance.made_with()
    assert made_with.keys() == {"python", *provenance.LIBRARIES}
    json.dumps(made_with)


def test_another_build_of_a_library_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cesta export --tensorrt` takes its onnxruntime from the distribution onnxruntime-gpu."""
    installed = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name in {"onnxruntime", "faiss-cpu"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    made_with = provenance.made_with()
    assert made_with["onnxruntime"][:2] == "1."
    assert made_with["faiss"][:2] == "1."
