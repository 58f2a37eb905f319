"""Checking a model repository without a server: every configuration against what the model itself takes and gives."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import AmiraError
from pipelines.triton.model_config import parse
from pipelines.triton.server import check_repository

_ONNX_NAMES = {
    "FLOAT": "FP32",
    "FLOAT16": "FP16",
    "INT64": "INT64",
    "INT32": "INT32",
    "INT16": "INT16",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "BOOL": "BOOL",
}
"""ONNX names of element types to Triton's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check of one configuration found.

    Attributes:
        model: Name of the model's folder.
        config: The file, relative to that folder.
        problem: What is wrong; empty where nothing is.
        unchecked: What could not be compared, and why; empty where everything was.
    """

    model: str
    config: str
    problem: str = ""
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    type: str
    shape: tuple[int | str, ...]
    """Sizes; a negative number or a name for one that varies."""


def check(repository: Path, models: Sequence[str] = ()) -> list[Finding]:
    """Check some models of a repository, or all.

    Raises:
        AmiraError: It is not a repository, or lacks one of the models.
    """
    check_repository(repository, models)
    names = models or sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    return [finding for name in names for finding in _model(repository, name)]


def _model(repository: Path, name: str) -> Iterator[Finding]:
    folder = repository / name
    for path in (folder / "config.pbtxt", *sorted(folder.glob("configs/*.pbtxt"))):
        config_name = str(path.relative_to(folder))
        try:
            config = parse(path)
            unchecked = _check_config(repository, folder, config)
        except AmiraError as error:
            yield Finding(name, config_name, problem=str(error))
        else:
            yield Finding(name, config_name, unchecked=unchecked)


def _check_config(repository: Path, folder: Path, config: Any) -> str:
    """What could not be compared.

    Raises:
        AmiraError: Something is wrong.
    """
    if config.name and config.name != folder.name:
        raise AmiraError(f"name is '{config.name}', the folder's is '{folder.name}'. Make them the same, or drop it")
    if not config.input or not config.output:
        raise AmiraError("it has no input or no output. Name those of the model")
    if config.platform == "ensemble":
        return _check_ensemble(repository, config)
    if config.backend == "python":
        return _check_python(folder)
    onnx_file = folder / "1" / "model.onnx"
    if not onnx_file.is_file():
        return "the model is not built: amira models build"
    inputs, outputs = _onnx_tensors(onnx_file)
    batched = config.max_batch_size > 0
    state = _state(config)
    _compare("input", config.input, [item for item in inputs if item.name not in state.values()], batched)
    _compare("output", config.output, outputs, batched, complete=False)
    _check_state(state, inputs, outputs)
    _check_implicit(config.sequence_batching.state, inputs)
    _check_warm_up(config)
    plan = config.default_model_filename or "model.onnx"
    if not plan.endswith(".onnx") and not (folder / "1" / plan).is_file():
        return f"1/{plan} is built on the GPU that runs it; compared with the ONNX file that it is built from"
    return ""


def _state(config: Any) -> dict[str, str]:
    """Outputs that become inputs of the next request of a sequence, as the runner or Triton itself does it."""
    implicit = {state.output_name: state.input_name for state in config.sequence_batching.state}
    text = config.parameters["state"].string_value if "state" in config.parameters else ""
    return implicit | dict(pair.split("=") for pair in text.split())


def _check_state(state: dict[str, str], inputs: list[_Tensor], outputs: list[_Tensor]) -> None:
    given, taken = ({item.name: item for item in items} for items in (outputs, inputs))
    for output, name in state.items():
        if output not in given or name not in taken:
            raise AmiraError(f"state {output}={name}: the model has no such pair of output and input. Mend 'state'")
        if given[output].type != taken[name].type:
            raise AmiraError(f"state {output}={name}: the types differ, {given[output].type} and {taken[name].type}")


def _check_implicit(states: Any, inputs: list[_Tensor]) -> None:
    """See that states that Triton keeps itself start with zeros, of the model's type and sizes."""
    taken = {item.name: item for item in inputs}
    for state in states:
        real, said = taken[state.input_name], (_type_name(state), tuple(state.dims))
        if said != (real.type, real.shape[1:]):
            raise AmiraError(
                f"state '{state.input_name}' is {said[0]} {list(said[1])} here and {real.type} {list(real.shape[1:])} "
                "in the model, behind the batch. Mend data_type and dims"
            )
        first = [(_type_name(item), tuple(item.dims), item.zero_data) for item in state.initial_state]
        if first != [(*said, True)]:
            raise AmiraError(f"state '{state.input_name}' needs an initial_state of zeros, of the same type and dims")


def _check_warm_up(config: Any) -> None:
    """See that warm-up requests are such as Triton runs; it skips those without a batch, and says so nowhere."""
    declared = {item.name: item for item in config.input}
    for request in config.model_warmup:
        where = f"warm-up request '{request.name}'"
        if request.batch_size < 1:
            raise AmiraError(f"{where} has no batch_size and would be skipped. Give it 1")
        if differing := set(declared) ^ set(request.inputs):
            raise AmiraError(f"{where} and the model's inputs differ in: {', '.join(sorted(differing))}. Name them all")
        for name, given in request.inputs.items():
            item = declared[name]
            fits = len(given.dims) == len(item.dims) and all(
                size >= 0 and wanted in (-1, size) for size, wanted in zip(given.dims, item.dims, strict=True)
            )
            if given.data_type != item.data_type or not fits:
                raise AmiraError(
                    f"{where} gives '{name}' as {_type_name(given)} {list(given.dims)}, and the input is "
                    f"{_type_name(item)} {list(item.dims)}. Mend the request"
                )


def _onnx_tensors(path: Path) -> tuple[list[_Tensor], list[_Tensor]]:
    import onnx
    from onnx import TensorProto

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:
        raise AmiraError(f"{path} cannot be read as ONNX: {error}. Build it again: amira models build") from error
    weights = {item.name for item in graph.initializer}
    names = {TensorProto.DataType.Value(key): f"TYPE_{value}" for key, value in _ONNX_NAMES.items()}

    def tensors(values: Any) -> list[_Tensor]:
        return [
            _Tensor(
                value.name,
                names.get(value.type.tensor_type.elem_type, "a type that Triton lacks"),
                tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim),
            )
            for value in values
            if value.name not in weights
        ]

    return tensors(graph.input), tensors(graph.output)


def _compare(kind: str, declared: Any, real: list[_Tensor], batched: bool, complete: bool = True) -> None:
    by_name = {item.name: item for item in real}
    for item in declared:
        found = by_name.pop(item.name, None)
        if found is None:
            have = ", ".join(sorted(tensor.name for tensor in real))
            raise AmiraError(f"{kind} '{item.name}' is not in the model, which has: {have}. Mend the name")
        said = _type_name(item)
        if said != found.type:
            raise AmiraError(f"{kind} '{item.name}' is {said} here and {found.type} in the model. Mend data_type")
        dims = tuple(item.reshape.shape) if item.HasField("reshape") else tuple(item.dims)
        shape = found.shape[1:] if batched else found.shape
        if len(dims) != len(shape) or any(
            isinstance(size, int) and dim != size for dim, size in zip(dims, shape, strict=True)
        ):
            batch = " behind the batch" if batched else ""
            raise AmiraError(
                f"{kind} '{item.name}' has the sizes {list(dims)} here and {list(shape)} in the model{batch}. Mend dims"
            )
    if complete and by_name:
        raise AmiraError(f"the model has more inputs: {', '.join(by_name)}. Add them")


def _type_name(item: Any) -> str:
    from tritonclient.grpc.model_config_pb2 import DataType

    return str(DataType.Name(item.data_type))


def _check_python(folder: Path) -> str:
    path = folder / "1" / "model.py"
    if not path.is_file():
        raise AmiraError(f"a Python model needs {path}")
    try:
        tree = ast.parse(path.read_text("utf-8"), str(path))
    except SyntaxError as error:
        raise AmiraError(f"{path}, line {error.lineno}: {error.msg}") from error
    if not any(isinstance(node, ast.ClassDef) and node.name == "TritonPythonModel" for node in tree.body):
        raise AmiraError(f"{path} has no class TritonPythonModel")
    return "a Python model does not say what it takes and gives; its code was only parsed"


def _check_ensemble(repository: Path, config: Any) -> str:
    """See that every step's tensors are made before it, and are of the type and rank that its model wants."""
    made = {item.name: _type_name(item) for item in config.input}
    for step in config.ensemble_scheduling.step:
        path = repository / step.model_name / "config.pbtxt"
        if not path.is_file():
            raise AmiraError(f"it has a step '{step.model_name}', and the repository no such model")
        inner = parse(path)
        if config.max_batch_size > inner.max_batch_size:
            raise AmiraError(
                f"it takes batches of {config.max_batch_size}, and its step '{step.model_name}' only of "
                f"{inner.max_batch_size}. Lower its max_batch_size"
            )
        inputs, outputs = ({item.name: _type_name(item) for item in items} for items in (inner.input, inner.output))
        for name, tensor in step.input_map.items():
            if name not in inputs:
                raise AmiraError(f"step '{step.model_name}' has no input '{name}'; have: {', '.join(inputs)}")
            if made.get(tensor) != inputs[name]:
                raise AmiraError(
                    f"step '{step.model_name}' wants '{tensor}' as {inputs[name]}, which is "
                    f"{made.get(tensor, 'made by no step before it')}"
                )
        if missing := set(inputs) - set(step.input_map):
            raise AmiraError(f"step '{step.model_name}' lacks: {', '.join(sorted(missing))}")
        for name, tensor in step.output_map.items():
            if name not in outputs:
                raise AmiraError(f"step '{step.model_name}' has no output '{name}'; have: {', '.join(outputs)}")
            made[tensor] = outputs[name]
    for item in config.output:
        if made.get(item.name) != _type_name(item):
            raise AmiraError(f"output '{item.name}' is made by no step, or as another type")
    return ""
