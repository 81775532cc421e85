"""Triton's adapter of the lists: tensors → questions → lists → tensors."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as pb_utils

from .digest import question_digest
from .lists import ItemLists, Listed, allowed_by
from .question import BadQuestion, read_question

LIVE: Final = f"{__package__}.live"  # the sampler's live tables, which a release holds a copy of
AS_RELEASED: Final = [b"-"]  # the value of ``live`` that asks without live tables: for golden requests

Answer = tuple[Listed, list[bytes]]  # a list; the digest of its question, then warnings


class TritonPythonModel:
    """One instance is one process; the arrays are mapped, so instances and the sampler share them."""

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self._lists = ItemLists.load(folder / "arrays")
        self._as_released = self._lists.list
        self._follower: Any = None  # live.follower.Follower
        labels = {"release": args["model_version"], "model_instance": args["model_instance_name"]}
        logs = os.environ.get(import_module(f"{LIVE}.change_log").FOLDER_VARIABLE)
        if logs:
            self._follow(Path(logs), labels)

    def finalize(self) -> None:
        """The release is unloaded, or the server stops."""
        if self._follower:
            self._follower.close()

    def _follow(self, logs: Path, labels: dict[str, str]) -> None:
        """Have the lists leave out what a live table forbids."""
        arrays = self._lists.arrays
        table = import_module(f"{LIVE}.forbidden").Forbidden(len(arrays.sold), arrays.items.find_joined)
        self._follower = import_module(f"{LIVE}.follower").Follower(logs, table, labels)
        self._lists = ItemLists(arrays, lambda store: allowed_by(table, store))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One list after the other; a bad request fails alone."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        """The response to one request, with as many rows as its batch has questions."""
        columns = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        if any(column.ndim != 2 or not len(column) for column in columns.values()):
            return _refusal("a batch of 0 questions; at least 1 is needed")
        count = max((len(column) for column in columns.values()), default=1)
        try:
            answers = [
                self._answer({name: column[row].tolist() for name, column in columns.items()})
                for row in range(count)
            ]
        except BadQuestion as error:
            return _refusal(str(error))
        return pb_utils.InferenceResponse(self._tensors(answers))

    def _answer(self, inputs: dict[str, list[Any]]) -> Answer:
        question = read_question(self._lists.arrays, inputs)
        as_released = inputs.get("live") == AS_RELEASED
        make = self._as_released if as_released else self._lists.list
        return make(question), [question_digest(inputs), *question.warnings]

    def _tensors(self, answers: list[Answer]) -> list[Any]:
        """The output tensors; shorter rows of a batch are padded with "" and 0."""
        width = max(len(listed.rows) for listed, _ in answers)
        most = max(len(told) for _, told in answers)
        ids = np.full((len(answers), width), b"", np.object_)
        scores = np.zeros((len(answers), width), np.float32)
        reasons = np.zeros((len(answers), width), np.int32)
        digests = np.full((len(answers), most), b"", np.object_)
        for row, (listed, told) in enumerate(answers):
            size = len(listed.rows)
            ids[row, :size] = [self._lists.arrays.items[item] for item in listed.rows.tolist()]
            scores[row, :size], reasons[row, :size] = listed.scores, listed.reasons
            digests[row, : len(told)] = told
        named = {"item_ids": ids, "scores": scores, "reasons": reasons, "digest": digests}
        return [pb_utils.Tensor(name, array) for name, array in named.items()]


def _refusal(text: str) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
