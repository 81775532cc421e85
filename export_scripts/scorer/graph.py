"""The scorer as an ONNX graph, with everything that depends on a single row folded into tables.

The first layer of the MLP (multi-layer perceptron) reads user, basket, item and features side by side, so it
is a sum of four products. Three of them depend on a row only: the tables user_mlp, basket_mlp and item_mlp.
The basket's sum over items commutes with the product. The weights of the GMF branch (generalised matrix
factorisation) go into item_gmf, and the scale of the features into the layers that read them.

``fold.fold`` computes the tables. The graph's scores equal those of ``ncf.NCF`` up to rounding; tests compare
them.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from operations.errors import CestaError
from operations.records.contract import GRAPH, TABLES, Contract

OPSET = 17  # every operator here is unchanged from 13 to today; 17 is what older servers read
IR_VERSION = 8  # the one that belongs to opset 17
PADDING_SCORE = np.float32(-1e9)  # finite, because JSON has no infinity

# Tables of at least so many bytes are stored beside the graph. ONNX Runtime maps them into memory, but copies
# the tables inside the graph, twice while it loads. A small shop's graph stays one file.
LARGE: Final = 1 << 20
MOST_BYTES: Final = 2_000_000_000  # a protobuf message holds 2 GiB; LARGE tables beside it do not count

Table = NDArray[np.float32]


@dataclass(frozen=True)
class FoldedNCF:
    """Tables by row, and the remaining layers.

    d is the width of the GMF branch, which may be 0; h is the width of the first layer.
    """

    user_gmf: Table  # (users, d)
    user_mlp: Table  # (users, h) all biases of the first layer included
    basket_gmf: Table  # (items, d) row 0 is zero
    basket_mlp: Table  # (items, h) row 0 is zero
    item_gmf: Table  # (items, d)
    item_mlp: Table  # (items, h)
    item_bias: Table  # (items, 1)
    features: Table  # (F, h) raw features into the first layer
    wide: Table  # (F, 1) raw features into the score
    hidden: list[tuple[Table, Table]]  # the further layers: (in, out), (out,)
    out: Table  # (last, 1)

    @classmethod
    def read(cls, graph: Path) -> "FoldedNCF":
        """Read the tables of a graph that ``save_graph`` wrote."""
        tensors = onnx.load(str(graph)).graph.initializer
        tables = {t.name: numpy_helper.to_array(t) for t in tensors if t.data_type == TensorProto.FLOAT}
        users, items = len(tables["user_mlp"]), len(tables["item_mlp"])
        layers = sum(name.startswith("hidden_") for name in tables) // 2

        def gmf(name: str, rows: int) -> Table:
            return tables.get(name, np.zeros((rows, 0), np.float32))

        return cls(
            user_gmf=gmf("user_gmf", users),
            user_mlp=tables["user_mlp"],
            basket_gmf=gmf("basket_gmf", items),
            basket_mlp=tables["basket_mlp"],
            item_gmf=gmf("item_gmf", items),
            item_mlp=tables["item_mlp"],
            item_bias=tables["item_bias"],
            features=tables["feature_weights"],
            wide=tables["wide_weights"],
            hidden=[
                (tables[f"hidden_{i}_weights"], tables[f"hidden_{i}_bias"]) for i in range(2, layers + 2)
            ],
            out=tables["out_weights"],
        )

    @property
    def all(self) -> list[Table]:
        """Every table."""
        layers = [table for layer in self.hidden for table in layer]
        return [table for table in [*vars(self).values(), *layers] if isinstance(table, np.ndarray)]


def build_graph(
    folded: FoldedNCF, item_ids: list[str], contract: Contract, beside: BinaryIO | None = None
) -> onnx.ModelProto:
    """Build the scorer's graph, which contains the ``item_ids`` (items,); the id of row 0 is "".

    LARGE tables are appended to ``beside``, which is TABLES; without it the graph contains all of them.
    Inputs and outputs are those of ``model_repository/ncf_scorer/config.pbtxt``, with a dynamic batch axis.
    Raises CestaError if what the graph contains is larger than a protobuf message can be.
    """
    nbytes = sum(table.nbytes for table in folded.all if beside is None or table.nbytes < LARGE)
    nbytes += sum(len(item_id.encode()) + 8 for item_id in item_ids)
    if nbytes > MOST_BYTES:
        raise CestaError(
            f"the scorer's graph for {len(item_ids):,} items takes {nbytes:,} bytes; an ONNX graph can hold "
            f"{MOST_BYTES:,}. List fewer products"
        )
    g = _Graph(beside)
    n_items, n_users = len(item_ids), len(folded.user_gmf)
    g.nodes("Split", "rows", g.int64([*contract.rows.values()]), outputs=[*contract.rows], axis=1)
    user = g.zero_unknown("user_row", n_users)  # (B, 1)
    basket = g.zero_unknown("basket_rows", n_items)  # (B, L)
    candidate = g.zero_unknown("candidate_rows", n_items)  # (B, C)

    in_basket = g.node("Cast", g.node("Greater", basket, g.int32(0)), to=TensorProto.FLOAT)
    size = g.node("ReduceSum", in_basket, g.int64([1]), keepdims=1)  # (B, 1)
    root = g.node("Unsqueeze", g.node("Sqrt", g.node("Max", size, g.float32(1.0))), g.int64([2]))  # (B, 1, 1)

    def query(users: Table, items: Table, name: str) -> str:
        pooled = g.node("ReduceSum", g.gather(items, basket, f"basket_{name}"), g.int64([1]), keepdims=1)
        return g.node("Add", g.gather(users, user, f"user_{name}"), g.node("Div", pooled, root))  # (B, 1, d)

    x = g.node("MatMul", "candidate_features", g.table(folded.features, "feature_weights"))  # (B, C, h)
    x = g.node("Add", x, g.gather(folded.item_mlp, candidate, "item_mlp"))
    x = g.node("Relu", g.node("Add", x, query(folded.user_mlp, folded.basket_mlp, "mlp")))
    for i, (weight, bias) in enumerate(folded.hidden, 2):
        x = g.node("MatMul", x, g.table(weight, f"hidden_{i}_weights"))
        x = g.node("Relu", g.node("Add", x, g.table(bias, f"hidden_{i}_bias")))
    mlp = g.node("MatMul", x, g.table(folded.out, "out_weights"))
    wide = g.node("MatMul", "candidate_features", g.table(folded.wide, "wide_weights"))
    wide = g.node("Add", wide, g.gather(folded.item_bias, candidate, "item_bias"))
    score = g.node("Add", mlp, wide)  # (B, C, 1)
    if folded.item_gmf.shape[1]:
        gmf = g.node("Transpose", query(folded.user_gmf, folded.basket_gmf, "gmf"), perm=[0, 2, 1])
        score = g.node("Add", score, g.node("MatMul", g.gather(folded.item_gmf, candidate, "item_gmf"), gmf))
    score = g.node("Squeeze", score, g.int64([2]))  # (B, C)

    real = g.node("Greater", candidate, g.int32(0))
    score = g.node("Where", real, score, g.float32(float(PADDING_SCORE)))
    _, best = g.nodes("TopK", score, g.int64([contract.answers]), outputs=["scores", "places"], axis=-1)
    rows = g.node("GatherElements", candidate, best, axis=1)
    ids = g.initializer(numpy_helper.from_array(np.array(item_ids, dtype=object), "item_id_of_row"))
    g.node("Gather", ids, rows, output="item_ids")
    sources = g.node("GatherElements", "candidate_sources", best, axis=1)
    g.node("Where", g.node("Greater", rows, g.int32(0)), sources, g.int32(0), output="reasons")
    return g.model(contract)


def write_graph(folded: FoldedNCF, item_ids: list[str], contract: Contract, folder: Path) -> None:
    """Write GRAPH into ``folder``, and TABLES beside it if a table is LARGE. Raises as ``build_graph``."""
    large = any(table.nbytes >= LARGE for table in folded.all)
    with (folder / TABLES).open("wb") if large else contextlib.nullcontext() as beside:
        graph = build_graph(folded, item_ids, contract, beside)
    (folder / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(folder / GRAPH))


class _Graph:
    """Collects nodes and initializers in the order of calls; every value has one name."""

    def __init__(self, beside: BinaryIO | None) -> None:
        self._beside = beside  # takes the LARGE tables
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, *inputs: str, output: str = "", **attributes: int | list[int]) -> str:
        """Add a node with one output and return the output's name."""
        return self.nodes(op, *inputs, outputs=[output or f"{op.lower()}_{len(self._nodes)}"], **attributes)[
            0
        ]

    def nodes(self, op: str, *inputs: str, outputs: list[str], **attributes: int | list[int]) -> list[str]:
        """Add a node with the named ``outputs``."""
        node = helper.make_node(op, inputs, outputs, name=outputs[0])
        node.attribute.extend(helper.make_attribute(key, attributes[key]) for key in sorted(attributes))
        self._nodes.append(node)
        return outputs

    def initializer(self, tensor: onnx.TensorProto) -> str:
        self._initializers[tensor.name] = tensor
        return tensor.name

    def table(self, values: NDArray[np.generic], name: str) -> str:
        values = np.ascontiguousarray(values)
        if self._beside is None or values.nbytes < LARGE:
            return self.initializer(numpy_helper.from_array(values, name))
        return self.initializer(_append(values, name, self._beside))

    def gather(self, values: Table, rows: str, name: str) -> str:
        return self.node("Gather", self.table(values, name), rows, axis=0)

    def int32(self, value: int) -> str:
        return self.table(np.array(value, np.int32), f"int32_{value}")

    def int64(self, values: list[int]) -> str:
        return self.table(np.array(values, np.int64), "int64_" + "_".join(map(str, values)))

    def float32(self, value: float) -> str:
        return self.table(np.array(value, np.float32), f"float32_{value:g}")

    def zero_unknown(self, rows: str, n: int) -> str:
        """Replace rows outside 0 … n - 1 by 0: an unchecked Gather would fail a whole batch of requests."""
        from_zero = self.node("GreaterOrEqual", rows, self.int32(0))
        inside = self.node("And", from_zero, self.node("Less", rows, self.int32(n)))
        return self.node("Where", inside, rows, self.int32(0))

    def model(self, contract: Contract) -> onnx.ModelProto:
        """Make the model from what was added, with the inputs and outputs of ``contract``."""

        def value(name: str, kind: int, *dims: int) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, ["batch", *dims])

        i32, f32, text = TensorProto.INT32, TensorProto.FLOAT, TensorProto.STRING
        graph = helper.make_graph(
            self._nodes,
            "ncf_scorer",
            inputs=[
                value("rows", i32, sum(contract.rows.values())),
                value("candidate_features", f32, contract.candidates, contract.features),
            ],
            outputs=[
                value("item_ids", text, contract.answers),
                value("scores", f32, contract.answers),
                value("reasons", i32, contract.answers),
            ],
            initializer=list(self._initializers.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="cesta")
        if self._beside is None:
            onnx.checker.check_model(model)
        return model


def _append(values: NDArray[np.generic], name: str, file: BinaryIO) -> onnx.TensorProto:
    """Append a table to ``file``, which is TABLES; return the reference to it."""
    tensor = onnx.TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
    tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    for key, value in {"location": TABLES, "offset": file.tell(), "length": values.nbytes}.items():
        tensor.external_data.add(key=key, value=str(value))
    file.write(values.data)
    return tensor
