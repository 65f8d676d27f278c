"""Rows as tensors, in the two forms of the Open Inference Protocol."""

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

_NUMPY = {"FP32": np.float32, "BYTES": np.object_, "BOOL": np.bool_}
_FIELDS = {"FP32": "fp32_contents", "BYTES": "bytes_contents", "BOOL": "bool_contents"}


def _column(model, name, rows):
    datatype = model.datatype(name)
    values = [row[name] for row in rows]
    if datatype == "BYTES":
        values = [value.encode() for value in values]
    return datatype, np.array(values, dtype=_NUMPY[datatype]).reshape(-1, 1)


def raw_inputs(model, rows):
    """`raw_input_contents`, as tritonclient sends NumPy arrays."""
    inputs = []
    for name in rows[0]:
        datatype, values = _column(model, name, rows)
        tensor = triton.InferInput(name, values.shape, datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    return inputs


def typed_request(model, rows):
    """A request with typed contents, which tritonclient's messages have and its client never sends."""
    request = service_pb2.ModelInferRequest(model_name=model.name)
    for name in rows[0]:
        datatype, values = _column(model, name, rows)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        getattr(tensor.contents, _FIELDS[datatype]).extend(values.reshape(-1).tolist())
    return request


def outputs(response):
    """Every output of an answer as an array, whichever form it came in; tritonclient reads the raw one only."""
    if response.raw_output_contents:
        result = triton.InferResult(response)
        return {output.name: result.as_numpy(output.name) for output in response.outputs}
    return {output.name: _typed_output(output) for output in response.outputs}


def _typed_output(output):
    values = getattr(output.contents, _FIELDS[output.datatype])
    return np.array(list(values), dtype=_NUMPY[output.datatype]).reshape(output.shape)


def bits(array):
    """An array that equals another only bit for bit."""
    return array.view(np.uint32) if array.dtype == np.float32 else array
