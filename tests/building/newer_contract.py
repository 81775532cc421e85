"""A contract that no release has yet: other sizes, one more input, one more output; and a sampler for it."""

import shutil
from pathlib import Path

from operations.records.contract import Contract
from operations.records.manifest import ContractRecord
from operations.releases.models.contracts import ServedContract
from tests.building import TOY_SAMPLER

SIZES = Contract(basket_slots=150, candidates=100, features=30, answers=12)
INPUT = {"hint": ("STRING", (1,))}
OUTPUT = {"echo": ("STRING", (1,))}
NO_HINT = b"no hint"

MODEL = f"""
import numpy as np

from .toy import TritonPythonModel as Toy


class TritonPythonModel(Toy):
    def execute(self, requests):
        import triton_python_backend_utils as pb_utils

        responses = []
        for request, response in zip(requests, super().execute(requests), strict=True):
            tensors = response.output_tensors()
            hint = pb_utils.get_input_tensor_by_name(request, "hint")
            echo = hint.as_numpy() if hint else np.full((len(tensors[0].as_numpy()), 1), {NO_HINT!r}, object)
            responses.append(pb_utils.InferenceResponse([*tensors, pb_utils.Tensor("echo", echo)]))
        return responses
"""


def newer_contract() -> ContractRecord:
    """The checkout's contract with SIZES, INPUT and OUTPUT."""
    sized = vars(SIZES)
    plain = ServedContract.of(ContractRecord(**sized))
    own = ServedContract.of(ContractRecord.of(SIZES))
    return ContractRecord(
        **sized,
        inputs={**own.inputs, **INPUT},
        outputs={**own.outputs, **plain.outputs, **OUTPUT},
        sampler_outputs={**own.sampler_outputs, **plain.sampler_outputs, **OUTPUT},
    )


def newer_sampler(folder: Path) -> Path:
    """The toy sampler that also gives back `hint` as `echo`, to publish in place of the real one."""
    folder.mkdir()
    shutil.copy(TOY_SAMPLER / "model.py", folder / "toy.py")
    (folder / "__init__.py").touch()
    (folder / "model.py").write_text(MODEL)
    return folder
