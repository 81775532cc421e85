"""Fits the configs of model_repository/ to a release's contract: its tensors replace those in the config."""

from collections.abc import Mapping
from typing import Final

from tritonclient.grpc import model_config_pb2

from operations.records.contract import Config, tensors
from operations.records.manifest import TensorRecords
from operations.releases.models.contracts import ModelTensors

DIGEST: Final = "digest"  # the output that names the question; see ensemble/candidate_sampler/digest.py
PROFILES: Final = tuple(f"trt_profile_{bound}_shapes" for bound in ("min", "opt", "max"))


def fit(config: Config, model: str, wanted: ModelTensors) -> None:
    """Give a config the name and the tensors of a model. All inputs are optional if the first one is."""
    config.name = model
    like = config.input[0]
    optional, ragged = like.optional, like.allow_ragged_batch
    del config.input[:], config.output[:]
    for name, (kind, dims) in wanted.inputs.items():
        config.input.add(
            name=name,
            data_type=_data_type(kind),
            dims=dims,
            optional=optional,
            allow_ragged_batch=ragged,
        )
    for name, (kind, dims) in wanted.outputs.items():
        config.output.add(name=name, data_type=_data_type(kind), dims=dims)
    _fit_profiles(config, wanted.inputs)


def fit_ensemble(
    config: Config, ensemble: str, wanted: Mapping[str, ModelTensors], models: Mapping[str, str]
) -> None:
    """Give an ensemble's config a release's tensors, and its steps the models that hold the release.

    A tensor has the same name in the ensemble and in its steps. What no step and no answer needs is not
    asked for.
    """
    fit(config, ensemble, wanted[ensemble])
    limit_cache(config)
    steps = [wanted[step.model_name] for step in config.ensemble_scheduling.step]
    given = {*wanted[ensemble].inputs}.union(*(outputs for _, outputs in steps))
    needed = {*wanted[ensemble].outputs}.union(*(inputs for inputs, _ in steps))
    for step, (inputs, outputs) in zip(config.ensemble_scheduling.step, steps, strict=True):
        step.model_name = models[step.model_name]
        for mapping, names, used in ((step.input_map, inputs, given), (step.output_map, outputs, needed)):
            mapping.clear()
            mapping.update({name: name for name in names if name in used})


def limit_cache(config: Config) -> None:
    """Switch an ensemble's response cache off unless its answers name their question.

    Two questions may have the same key in Triton's cache. Who asks finds the wrong answer by its digest.
    """
    if DIGEST not in tensors(config.output):
        config.response_cache.enable = False


def tensors_in(config: Config) -> ModelTensors:
    """The tensors of a config."""
    inputs, outputs = (
        {name: (kind, tuple(dims)) for name, (kind, dims) in tensors(side).items()}
        for side in (config.input, config.output)
    )
    return ModelTensors(inputs, outputs)


def _data_type(kind: str) -> int:
    return int(model_config_pb2.DataType.Value(f"TYPE_{kind}"))


def _fit_profiles(config: Config, inputs: TensorRecords) -> None:
    """Give TensorRT's profiles, such as ``rows:16x457``, the inputs' dims; each keeps its batch."""
    for accelerator in config.optimization.execution_accelerators.gpu_execution_accelerator:
        for key in PROFILES:
            if key in accelerator.parameters:
                batch = accelerator.parameters[key].partition(":")[2].partition("x")[0]
                shapes = {name: "x".join(map(str, (batch, *dims))) for name, (_, dims) in inputs.items()}
                accelerator.parameters[key] = ",".join(f"{name}:{shape}" for name, shape in shapes.items())
