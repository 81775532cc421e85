"""Receipts to release on a small shop: parity, determinism, and what a second build keeps."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts import build as build_module
from export_scripts import export as export_module
from export_scripts.build import Promotion, build
from export_scripts.evaluate import evaluate
from export_scripts.export import export
from export_scripts.receipts.shop import load_shop
from export_scripts.scorer import tensorrt
from export_scripts.scorer.checkpoint import load_checkpoint
from export_scripts.settings import Settings
from export_scripts.train import train
from operations.errors import CestaError, NotActive
from operations.outputs import Outputs
from operations.records import manifest
from operations.records.contract import read_contract
from operations.records.golden_answers import ACCELERATED_TOLERANCE
from operations.records.manifest import ReleaseManifest
from operations.releases.promote import roll_back
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import open_repository
from tests import ROOT
from tests.building.cheap_builds import CHEAP, settings_of
from tests.building.shops import make_shop

STAGES = ("etl", "train", "evaluate", "export", "publish")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return make_shop(tmp_path_factory.mktemp("shop"), np.random.default_rng(1)).overrides()


@pytest.fixture(scope="module")
def built(tables: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    out = Outputs(tmp_path_factory.mktemp("built"))
    assert build(settings_of(tables), out.root) == 1
    return out


@pytest.fixture
def copy(built: Outputs, tmp_path: Path) -> Outputs:
    """A copy of the build, for tests that damage it."""
    shutil.copytree(built.root, tmp_path / "copy")
    return Outputs(tmp_path / "copy")


def rebuild(
    settings: Settings, out: Outputs, monkeypatch: pytest.MonkeyPatch, force: bool = False
) -> list[str]:
    """Build again; the stages that ran."""
    stages: list[str] = []

    def noting(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            stages.append(stage)
            return work(*values, **named)

        return call

    with monkeypatch.context() as patch:
        for stage in STAGES:
            patch.setattr(build_module, stage, noting(stage, getattr(build_module, stage)))
        build(settings, out.root, Promotion(force=force))
    return stages


def release_of(out: Outputs) -> ReleaseManifest:
    """The active release of a build, after its files were checked."""
    return verify_release(open_repository(out.repository))


def test_a_build_leaves_a_whole_release(built: Outputs) -> None:
    """No half-written file lies beside it."""
    assert release_of(built).release == 1
    names = {path.name for path in built.root.iterdir()}
    assert names == {
        "data",
        "checkpoint.pt",
        "counts",
        "parts",
        "metrics.json",
        "report.html",
        "run",
        "repository",
        "stages.json",
    }


def test_the_served_scores_are_the_torch_models(built: Outputs, tables: dict[str, object]) -> None:
    """The candidates are those of real queries, with known, unknown and empty ones among them."""
    shop, settings = load_shop(built.data), settings_of(tables)
    model, _ = load_checkpoint(built.checkpoint, shop, settings)
    reference = Reference.load(built.run)
    queries = [
        Query(user_row=int(shop.users[b]), basket=shop.basket(b).tolist()[1:], now=int(shop.times[b]))
        for b in range(300, 400)
    ] + [Query(), Query(basket=[3, 4]), Query(user_row=2)]
    candidates = reference.sampler.sample(queries)
    arrays = (reference.sampler.basket_rows(queries), candidates.rows, candidates.features)
    with torch.no_grad():
        scores = model(torch.tensor([q.user_row for q in queries]), *map(torch.from_numpy, arrays)).numpy()
    scores[candidates.rows == 0] = -1e9
    best = -np.sort(-scores, axis=1)[:, :20]
    np.testing.assert_allclose(reference.score(queries, candidates).scores, best, atol=1e-4)


def test_the_reference_answers_no_queries(built: Outputs) -> None:
    """An empty batch is an empty answer."""
    assert Reference.load(built.run).recommend([]).item_ids.shape == (0, 20)


def test_the_manifest_is_complete(built: Outputs) -> None:
    """It says where a release comes from, and allows to check it."""
    described = release_of(built)
    assert described.data.items == 60
    assert described.data.first < described.data.last
    assert len(described.data.fingerprint) == 64
    assert described.contract.answers == 20
    assert described.contract.inputs["basket"] == ("STRING", (-1,))
    assert described.contract.outputs["scores"] == ("FP32", (20,))
    assert described.metrics == json.loads(built.metrics.read_text())
    assert described.settings["train"]["seed"] == 7
    assert described.explore == described.metrics["frontier"]["chosen"]  # the setting is "auto"
    assert described.made_with.keys() >= {"python", "torch", "onnx"}
    assert len(described.golden) == export_module.GOLDEN_REQUESTS


def test_the_manifest_names_no_path_of_the_machine(built: Outputs, tables: dict[str, object]) -> None:
    """Paths of the tables, the build and the checkout stay out of it."""
    text = (built.run / manifest.NAME).read_text()
    for path in (built.root, Path(str(tables["data.transactions"])).parent, ROOT):
        assert str(path) not in text
    assert str(Path.home()) + "/" not in text


def test_golden_requests_get_their_answers(built: Outputs) -> None:
    """The reference answers from the published files, vocabulary included."""
    reference = Reference.load(built.run)
    for golden in release_of(built).golden:
        request, answer = golden.request, golden.answer
        basket = [item_id.encode() for item_id in request.basket]
        query = reference.vocabulary.query(basket=basket, user_id=request.user_id.encode())
        reply = reference.recommend([query])
        assert tuple(reply.item_ids[0]) == answer.item_ids
        np.testing.assert_allclose(reply.scores[0], answer.scores, atol=1e-4)
        assert tuple(reply.reasons[0].tolist()) == answer.reasons


def test_a_second_build_does_nothing(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rebuild(settings_of(tables), copy, monkeypatch) == []


def test_other_evaluation_trains_nothing(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of the release do not change, so it is not published again."""
    settings = settings_of(tables, **{"evaluate.queries": 20})
    assert rebuild(settings, copy, monkeypatch) == ["evaluate", "export"]


def test_another_choice_between_repeat_and_explore_trains_nothing(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first measurement has told what the other release will find. Its metrics are those of one value."""
    (told,) = [p for p in json.loads(copy.metrics.read_text())["frontier"]["points"] if p["value"] == 1.5]
    settings = settings_of(tables, **{"ranking.explore": 1.5})
    with pytest.raises(CestaError, match=r"measures ranking.explore = .*, and this release would have 1.5"):
        export(settings, copy.data, copy.checkpoint, copy.metrics, copy.run)
    assert rebuild(settings, copy, monkeypatch, force=True) == ["evaluate", "export", "publish"]
    measured = json.loads(copy.metrics.read_text())
    assert release_of(copy).explore == measured["frontier"]["explore"] == 1.5
    found = {name: measured[name]["hr_at_10"] for name in ("repeat", "explore")}
    found |= {name: measured["known"][name] for name in ("hr_at_10", "ndcg_at_10")}
    assert found | {"value": 1.5} == pytest.approx(told, abs=1e-4)


def test_a_touched_table_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages that follow read the same data, and stay fresh."""
    tables = make_shop(tmp_path / "shop", np.random.default_rng(1), baskets=60)
    out, settings = Outputs(tmp_path / "out"), settings_of(tables.overrides())
    build(settings, out.root)
    os.utime(tables.transactions, (1, 1))
    assert rebuild(settings, out, monkeypatch) == ["etl"]


def test_other_receipts_run_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = make_shop(tmp_path / "shop", np.random.default_rng(1), baskets=60)
    out, settings = Outputs(tmp_path / "out"), settings_of(tables.overrides())
    build(settings, out.root)
    lines = tables.transactions.read_text().splitlines(keepends=True)
    tables.transactions.write_text("".join(lines[:-1]))
    assert rebuild(settings, out, monkeypatch) == list(STAGES)


def test_other_settings_that_read_the_same_data_train_nothing(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export notes the settings in its manifest."""
    settings = settings_of(tables, **{"etl.returns": "drop"})
    assert rebuild(settings, copy, monkeypatch) == ["etl", "export"]
    assert manifest.verify_run(copy.run).settings["etl"]["returns"] == "drop"


def test_a_truncated_checkpoint_is_trained_again(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.checkpoint.write_bytes(copy.checkpoint.read_bytes()[:1000])
    assert rebuild(settings_of(tables), copy, monkeypatch) == ["train"]


def test_new_sampler_code_is_published(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays and graph are equal to the last bit, but the release holds the code, too."""
    code = manifest.verify_run(copy.run).sampler_code
    config = copy.repository / "recommender" / "1" / manifest.NAME
    config.write_text(config.read_text().replace(code, "0" * 64))
    assert rebuild(settings_of(tables), copy, monkeypatch) == ["publish"]


@pytest.mark.parametrize("stage", ["train", "evaluate", "export"])
def test_a_build_that_died_in_a_stage_continues_there(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The next build continues there. Until then the old release is served."""
    settings = settings_of(tables, **{"train.seed": 8})

    def dies(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build_module, stage, dies)
        with pytest.raises(KeyboardInterrupt):
            build(settings, copy.root)
    assert release_of(copy).release == 1
    # forced, because a release of another seed may be the worse one
    assert rebuild(settings, copy, monkeypatch, force=True) == list(STAGES[STAGES.index(stage) :])
    assert release_of(copy).release == 2


def test_a_build_does_not_undo_a_rollback(copy: Outputs, tables: dict[str, object]) -> None:
    """The release that was rolled back is the newest one, and a scheduled build has nothing to do."""
    build(settings_of(tables, **{"train.seed": 9}), copy.root, Promotion(force=True))
    assert release_of(copy).release == 2
    roll_back(open_repository(copy.repository))
    build(settings_of(tables, **{"train.seed": 9}), copy.root)
    assert release_of(copy).release == 1


def test_a_build_does_not_pass_the_gate(copy: Outputs, tables: dict[str, object]) -> None:
    """The release is published and waits. The next build tries again; force promotes it."""
    settings = settings_of(tables, **{"train.seed": 9, "release.hr_at_10": 1})
    for _ in range(2):
        with pytest.raises(NotActive, match=r"release 2 is in .* but not active: .*bar of 1\.0000 .*--force"):
            build(settings, copy.root)
        assert release_of(copy).release == 1
    assert build(settings, copy.root, Promotion(force=True)) == 2
    assert release_of(copy).release == 2


def test_two_builds_of_one_seed_are_one_release(
    built: Outputs, tables: dict[str, object], tmp_path: Path
) -> None:
    """The second build runs in another folder and process, with other hash seeds."""
    changes = [word for name, value in CHEAP.items() for word in ("--set", f"{name}={value}")]
    files = ["--transactions", str(tables["data.transactions"]), "--products", str(tables["data.products"])]
    command = [
        sys.executable,
        "-m",
        "operations.cli",
        "build",
        *files,
        "--out",
        str(tmp_path / "o"),
        *changes,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "99"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f"release 1 in {tmp_path / 'o' / 'repository'}")
    again, first = (release_of(out).json_object() for out in (Outputs(tmp_path / "o"), built))
    same = ("digest", "files", "golden", "metrics", "data", "settings", "sampler_code")
    assert {key: again[key] for key in same} == {key: first[key] for key in same}


def test_metrics_of_another_checkpoint_are_refused(copy: Outputs, tables: dict[str, object]) -> None:
    """A release must not show metrics of another one."""
    settings = settings_of(tables, **{"train.seed": 9})
    train(settings, copy.data, copy.checkpoint)
    with pytest.raises(CestaError, match=r'measures another checkpoint .*run "cesta evaluate"'):
        export(settings, copy.data, copy.checkpoint, copy.metrics, copy.run)
    evaluate(settings, copy.data, copy.checkpoint, copy.metrics)
    export(settings, copy.data, copy.checkpoint, copy.metrics, copy.run)


def test_an_unmeasured_run_says_so(copy: Outputs, tables: dict[str, object]) -> None:
    """Export needs no evaluation, but records that there was none."""
    copy.metrics.unlink()
    export(settings_of(tables), copy.data, copy.checkpoint, copy.metrics, copy.run)
    assert manifest.verify_run(copy.run).metrics is None


def test_a_full_disk_leaves_the_old_run(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifest.verify_run(copy.run)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "save_snapshot", full)
    with pytest.raises(OSError, match="No space left"):
        export(settings_of(tables), copy.data, copy.checkpoint, copy.metrics, copy.run)
    assert manifest.verify_run(copy.run) == before
    assert not list(copy.root.glob(".*"))


def test_tensorrt_is_asked_for_before_any_work(copy: Outputs, tables: dict[str, object]) -> None:
    """This machine's onnxruntime has no GPU: one sentence says so, and the run does not change."""
    before = manifest.verify_run(copy.run)
    with pytest.raises(CestaError, match=r"no TensorrtExecutionProvider; --tensorrt needs an NVIDIA GPU"):
        export(
            settings_of(tables), copy.data, copy.data / "nowhere", copy.metrics, copy.run, on_tensorrt=True
        )
    assert manifest.verify_run(copy.run) == before
    assert not list(copy.root.glob(".*"))


def test_a_run_that_tensorrt_answered_says_so(
    copy: Outputs, tables: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU takes both sides: batches of 1, 16 and 64, no difference, and the same files as without."""
    files = manifest.verify_run(copy.run).files
    monkeypatch.setattr(tensorrt, "PROVIDER", tensorrt.CPU)
    export(settings_of(tables), copy.data, copy.checkpoint, copy.metrics, copy.run, on_tensorrt=True)
    described = manifest.verify_run(copy.run)
    recorded = {key: described.tensorrt[key] for key in ("queries", "largest_difference", "tolerance")}
    assert recorded == {"queries": 81, "largest_difference": 0.0, "tolerance": 0.02}
    assert described.files == files


def rounded_factors(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Round every MatMul's factors to 11 significant bits, as TF32 has them: c - (c - x) with c = 8193 x."""
    split = "two_to_13_and_1"
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        for i, name in enumerate(node.input if node.op_type == "MatMul" else ()):
            prefix = f"{node.name}_{i}"
            nodes.append(helper.make_node("Mul", [name, split], [f"{prefix}_c"]))
            nodes.append(helper.make_node("Sub", [f"{prefix}_c", name], [f"{prefix}_rest"]))
            nodes.append(helper.make_node("Sub", [f"{prefix}_c", f"{prefix}_rest"], [f"{prefix}_rounded"]))
            node.input[i] = f"{prefix}_rounded"
        nodes.append(node)
    copied = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    graph.graph.ClearField("node")
    graph.graph.node.extend(copied)
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), split))
    return graph


def test_a_gpu_s_rounding_is_within_the_tolerance(copy: Outputs) -> None:
    """Rounded products change scores, but none by as much as TensorRT may."""
    path = str(copy.run / "model.onnx")
    batches = export_module._batches(load_shop(copy.data), copy.run, read_contract())
    exact, rounded = (
        tensorrt.open_session(graph.SerializeToString(), [tensorrt.CPU])
        for graph in (onnx.load(path), rounded_factors(onnx.load(path)))
    )
    largest = max(
        tensorrt.compare(rounded.run(tensorrt.OUTPUTS, batch), exact.run(tensorrt.OUTPUTS, batch))
        for batch in batches
    )
    assert 0 < largest < ACCELERATED_TOLERANCE / 2
