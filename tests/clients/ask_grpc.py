"""Asks a gateway with a client generated from docs/grpc/recommender.proto: ask_grpc.py ADDRESS KEY.

Prints whether it is ready, the release with item ids, and status, code and pointer of a refusal. It runs in
the environment of the generators, where nothing of cesta is.
"""

import struct
import sys

sys.path.insert(0, ".")

import grpc
import recommender_pb2
import recommender_pb2_grpc


def packed(*ids: str) -> bytes:
    """Each id behind its length."""
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in ids)


def unpacked(raw: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return texts


def question(*basket: str) -> recommender_pb2.ModelInferRequest:
    tensor = recommender_pb2.ModelInferRequest.InferInputTensor
    return recommender_pb2.ModelInferRequest(
        model_name="recommender",
        inputs=[
            tensor(name="basket", datatype="BYTES", shape=[1, len(basket)]),
            tensor(name="user_id", datatype="BYTES", shape=[1, 1]),
        ],
        raw_input_contents=[packed(*basket), packed("")],
    )


address, key = sys.argv[1:]
metadata = [("authorization", f"Bearer {key}"), ("x-session-id", "s-1")]
with grpc.insecure_channel(address) as channel:
    shop = recommender_pb2_grpc.GRPCInferenceServiceStub(channel)
    print(shop.ServerReady(recommender_pb2.ServerReadyRequest(), metadata=metadata, timeout=5).ready)
    answer = shop.ModelInfer(question("i1", "i2"), metadata=metadata, timeout=5)
    outputs = {
        output.name: raw for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }
    print(answer.model_version, *unpacked(outputs["item_ids"])[:3])
    refused = question("i1")
    refused.inputs[0].datatype = "INT32"
    try:
        shop.ModelInfer(refused, metadata=metadata, timeout=5)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        print(error.code().name, trailers["cesta-code"], trailers["cesta-pointer"])
