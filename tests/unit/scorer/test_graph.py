"""The folded ONNX graph is the torch model, and keeps its promises for rows and padding."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import external_data_helper

from export_scripts.scorer import graph as graph_module
from export_scripts.scorer.fold import fold
from export_scripts.scorer.graph import IR_VERSION, OPSET, PADDING_SCORE, FoldedNCF, build_graph, write_graph
from export_scripts.scorer.ncf import NCF, NCFShape
from operations.errors import CestaError
from operations.records.contract import Contract, read_contract

USERS, ITEMS, FEATURES = 5, 40, 4
CONTRACT = Contract(basket_slots=6, candidates=12, features=FEATURES, answers=5)
IDS = ["", "crème brûlée", "寿司", "🥐", *(f"item {n}" for n in range(4, ITEMS))]
Feed = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def model() -> NCF:
    torch.manual_seed(3)
    ncf = NCF(NCFShape(USERS, ITEMS, FEATURES, gmf=8, mlp=8, hidden=(16, 8, 4)))
    for parameter in ncf.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ncf.feature_mean.copy_(torch.randn(FEATURES))
    ncf.feature_std.copy_(torch.rand(FEATURES) + 0.1)
    return ncf.eval()


@pytest.fixture(scope="module")
def session(model: NCF) -> ort.InferenceSession:
    graph = build_graph(fold(model), IDS, CONTRACT)
    return ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


def queries(batch: int, seed: int = 0) -> Feed:
    """Distinct candidates and baskets of different lengths; one user is unknown."""
    rng = np.random.default_rng(seed)
    baskets = rng.integers(1, ITEMS, (batch, CONTRACT.basket_slots)).astype(np.int32)
    baskets[np.arange(CONTRACT.basket_slots) >= rng.integers(0, 7, (batch, 1))] = 0
    return {
        "user_row": rng.integers(0, USERS, (batch, 1)).astype(np.int32),
        "basket_rows": baskets,
        "candidate_rows": np.array(
            [rng.permutation(ITEMS - 1)[: CONTRACT.candidates] + 1 for _ in range(batch)], np.int32
        ),
        "candidate_features": rng.normal(size=(batch, CONTRACT.candidates, FEATURES)).astype(np.float32),
        "candidate_sources": rng.integers(1, 32, (batch, CONTRACT.candidates)).astype(np.int32),
    }


def in_torch(model: NCF, feed: Feed) -> np.ndarray:
    names = ("user_row", "basket_rows", "candidate_rows", "candidate_features")
    user, *rest = (torch.from_numpy(feed[name]) for name in names)
    with torch.no_grad():
        return model(user[:, 0], *rest).numpy()


def in_numpy(f: FoldedNCF, feed: Feed) -> np.ndarray:
    """Apply the folded tables without ONNX."""
    user, basket, item = feed["user_row"][:, 0], feed["basket_rows"], feed["candidate_rows"]
    root = np.sqrt(np.maximum((basket > 0).sum(1), 1))[:, None]
    gmf = f.user_gmf[user] + f.basket_gmf[basket].sum(1) / root
    mlp = f.user_mlp[user] + f.basket_mlp[basket].sum(1) / root
    x = np.maximum(mlp[:, None] + f.item_mlp[item] + feed["candidate_features"] @ f.features, 0)
    for weight, bias in f.hidden:
        x = np.maximum(x @ weight + bias, 0)
    wide = feed["candidate_features"] @ f.wide + f.item_bias[item]
    return np.einsum("bd,bcd->bc", gmf, f.item_gmf[item]) + (x @ f.out + wide)[..., 0]


def packed(feed: Feed) -> Feed:
    """Rows side by side, as the graph takes them."""
    rows = np.concatenate([feed[name] for name in CONTRACT.rows], axis=1)
    return {"rows": rows, "candidate_features": feed["candidate_features"]}


def answers(session: ort.InferenceSession, feed: Feed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, scores, reasons = session.run(["item_ids", "scores", "reasons"], packed(feed))
    return ids, scores, reasons


def test_folding_changes_nothing(model: NCF) -> None:
    """The test compares all candidates of 50 queries, in numpy."""
    feed = queries(50)
    np.testing.assert_allclose(in_numpy(fold(model), feed), in_torch(model, feed), atol=1e-4)


@pytest.mark.parametrize("batch", [1, 7])
def test_the_graph_ranks_as_torch_does(model: NCF, session: ort.InferenceSession, batch: int) -> None:
    """The best K have the same scores, ids and source bits, for any batch size."""
    feed = queries(batch, seed=batch)
    expected = in_torch(model, feed)
    ids, scores, reasons = answers(session, feed)
    best = np.argsort(-expected, axis=1)[:, : CONTRACT.answers]
    np.testing.assert_allclose(scores, np.take_along_axis(expected, best, 1), atol=1e-4)
    rows = np.take_along_axis(feed["candidate_rows"], best, 1)
    assert ids.tolist() == [[IDS[row] for row in line] for line in rows]
    np.testing.assert_array_equal(reasons, np.take_along_axis(feed["candidate_sources"], best, 1))


def test_ids_are_any_text(session: ort.InferenceSession) -> None:
    """UTF-8 beyond ASCII comes back as it went in."""
    feed = queries(1)
    feed["candidate_rows"][:] = [1, 2, 3, *[0] * 9]
    assert set(answers(session, feed)[0][0, :3]) == {"crème brûlée", "寿司", "🥐"}


def test_fewer_candidates_than_answers_are_padded(session: ort.InferenceSession) -> None:
    """Padding has an empty id, the padding score and no reason, and follows all real items however low these
    score.
    """
    feed = queries(1)
    feed["candidate_rows"][0, 2:] = 0
    feed["candidate_features"] *= 1000
    ids, scores, reasons = (values[0] for values in answers(session, feed))
    assert set(ids[:2]) == {IDS[row] for row in feed["candidate_rows"][0, :2]}
    assert ids[2:].tolist() == [""] * 3
    assert (scores[2:] == PADDING_SCORE).all()
    assert not reasons[2:].any()
    assert reasons[:2].all()


def test_no_candidates_at_all_is_an_answer(session: ort.InferenceSession) -> None:
    """It is all padding."""
    feed = queries(1)
    feed["candidate_rows"][:] = 0
    assert answers(session, feed)[0].tolist() == [[""] * CONTRACT.answers]


@pytest.mark.parametrize("row", [-1, ITEMS, 2**31 - 1, -(2**31)])
def test_rows_beyond_the_tables_are_row_0(session: ort.InferenceSession, row: int) -> None:
    """A bad row of one request must not fail the batch that it shares with strangers."""
    beyond, zero = queries(3), queries(3)
    for feed, value in ((beyond, row), (zero, 0)):
        feed["user_row"][1] = feed["basket_rows"][1, 0] = feed["candidate_rows"][1, 0] = value
    for output, expected in zip(answers(session, beyond), answers(session, zero), strict=True):
        np.testing.assert_array_equal(output, expected)


def test_answers_do_not_depend_on_the_batch(session: ort.InferenceSession) -> None:
    """Each query gets the same answer alone and among others."""
    feed = queries(5)
    together = answers(session, feed)[1]
    single = [answers(session, {name: v[i : i + 1] for name, v in feed.items()})[1][0] for i in range(5)]
    np.testing.assert_allclose(together, single, rtol=1e-5)


def test_the_graph_suits_old_and_new_servers(model: NCF) -> None:
    """Opset and IR version belong together, the graph is valid, and the batch axis is dynamic everywhere."""
    graph = build_graph(fold(model), IDS, CONTRACT)
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]
    assert (OPSET, graph.ir_version) == (17, IR_VERSION)
    for value in (*graph.graph.input, *graph.graph.output):
        batch, *rest = value.type.tensor_type.shape.dim
        assert (batch.dim_param, batch.HasField("dim_value")) == ("batch", False)
        assert all(dim.dim_value > 0 for dim in rest)


def test_the_same_model_gives_the_same_bytes(model: NCF) -> None:
    """A release is identified by its content."""
    first, second = (build_graph(fold(model), IDS, CONTRACT) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_the_served_sizes_load(model: NCF) -> None:
    """The graph has the contract's own L, C and K, with this model's few features."""
    served = read_contract()
    sizes = Contract(served.basket_slots, served.candidates, FEATURES, served.answers)
    graph = build_graph(fold(model), IDS, sizes).SerializeToString()
    outputs = ort.InferenceSession(graph, providers=["CPUExecutionProvider"]).get_outputs()
    assert [output.shape for output in outputs] == [["batch", served.answers]] * 3


def test_large_tables_lie_beside_the_graph(
    model: NCF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: ort.InferenceSession
) -> None:
    """Tables of at least LARGE bytes lie in one file; the answers stay the same, to the last bit."""
    monkeypatch.setattr(graph_module, "LARGE", 2_000)
    write_graph(fold(model), IDS, CONTRACT, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.data", "model.onnx"]
    # item_mlp and basket_mlp are 40 rows of 16 floats, 2,560 bytes each; those of the GMF are 1,280.
    assert (tmp_path / "model.data").stat().st_size == 2 * 2_560
    beside = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for one, other in zip(
        session.run(None, packed(queries(9))), beside.run(None, packed(queries(9))), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_small_graph_is_one_file(model: NCF, tmp_path: Path) -> None:
    write_graph(fold(model), IDS, CONTRACT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("gmf", [0, 8])
def test_tables_are_read_back_from_a_graph(gmf: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may lie inside or beside it."""
    monkeypatch.setattr(graph_module, "LARGE", 2_000)
    folded = fold(NCF(NCFShape(USERS, ITEMS, FEATURES, gmf=gmf, mlp=8, hidden=(16, 8, 4))))
    write_graph(folded, IDS, CONTRACT, tmp_path)
    restored = FoldedNCF.read(tmp_path / "model.onnx")
    assert sum(t.nbytes for t in restored.all) == sum(t.nbytes for t in folded.all)
    for name, table in vars(folded).items():
        tables = (
            zip(table, getattr(restored, name), strict=True)
            if name == "hidden"
            else [(table, getattr(restored, name))]
        )
        for one, other in tables:
            assert all(map(np.array_equal, one, other)), name


def test_tables_that_no_protobuf_holds_lie_beside_it(
    model: NCF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: ort.InferenceSession
) -> None:
    """Two tables of 2,560 bytes are too much for the graph here, so it refuses to contain them."""
    monkeypatch.setattr(graph_module, "MOST_BYTES", 7_000)
    with pytest.raises(CestaError, match=r"for 40 items takes \d+,\d{3} bytes; .* 7,000. List fewer"):
        build_graph(fold(model), IDS, CONTRACT)
    monkeypatch.setattr(graph_module, "LARGE", 2_000)
    write_graph(fold(model), IDS, CONTRACT, tmp_path)
    beside = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for one, other in zip(
        session.run(None, packed(queries(9))), beside.run(None, packed(queries(9))), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_ids_that_no_protobuf_holds_are_refused(
    model: NCF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strings cannot lie beside a graph. The refusal comes before anything is built."""
    monkeypatch.setattr(graph_module, "MOST_BYTES", 100)
    monkeypatch.setattr(graph_module, "LARGE", 1)
    with pytest.raises(CestaError, match=r"for 40 items takes \d{3} bytes"):
        write_graph(fold(model), IDS, CONTRACT, tmp_path)


def test_a_saved_graph_is_as_onnx_saves_it(
    model: NCF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Releases of earlier versions were saved by onnx: the same tables give the same bytes."""
    monkeypatch.setattr(graph_module, "LARGE", 2_000)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    write_graph(fold(model), IDS, CONTRACT, ours)
    graph = build_graph(fold(model), IDS, CONTRACT)
    external_data_helper.convert_model_to_external_data(graph, location="model.data", size_threshold=2_000)
    external_data_helper.write_external_data_tensors(graph, str(theirs))
    (theirs / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    for name in ("model.onnx", "model.data"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
