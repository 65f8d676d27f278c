"""The trained MobileNetV2 as ONNX: the backbone's own graph with other weights, and smaller forms of it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .mobilenet import Layer, MobileNet


def export(network: MobileNet, backbone: bytes, classes: int, size: int) -> onnx.ModelProto:
    """`image` `[N, 3, size, size]` to `logits` `[N, classes]`."""
    model = onnx.load_from_string(backbone)
    graph = model.graph
    weights = {entry.name: entry for entry in graph.initializer}
    layers = [layer.convolution for layer in network.modules() if isinstance(layer, Layer)]
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    for node, layer in zip(nodes, layers, strict=True):
        for name, value in zip(node.input[1:], (layer.weight, layer.bias)):
            fill(weights[name], value)
    last = graph.node[-1]
    for name, value in zip(last.input[1:], (network.head.weight, network.head.bias)):
        fill(weights[name], value)
    for node in graph.node:
        node.input[:] = ["image" if name == "input" else name for name in node.input]
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, size, size]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", classes]))
    graph.name, model.producer_name, model.producer_version, model.doc_string = "vehicle-classifier", "evzoo", "", ""
    del graph.value_info[:], model.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def fill(entry: onnx.TensorProto, value) -> None:
    """Replaces a weight."""
    entry.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value.detach().numpy()), entry.name))


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights stored as float16 and widened when the file is loaded; computed with in float32."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for entry in half.graph.initializer:
        value = numpy_helper.to_array(entry)
        if value.dtype == np.float32 and value.size > 1:
            stored = f"{entry.name}_half"
            casts.append(helper.make_node("Cast", [stored], [entry.name], to=TensorProto.FLOAT))
            entry.CopyFrom(numpy_helper.from_array(value.astype(np.float16), stored))
    nodes = [*casts, *half.graph.node]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    onnx.checker.check_model(half)
    return half


def quantised(model: onnx.ModelProto, views: np.ndarray) -> bytes:
    """Weights by channel and activations as int8, their ranges taken from views of training photos."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Views(CalibrationDataReader):
        def __init__(self):
            self.left = iter(views)

        def get_next(self):
            view = next(self.left, None)
            return None if view is None else {"image": view[None]}

    with TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(target),
            Views(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()


def session(content: bytes) -> onnxruntime.InferenceSession:
    """One thread, as the server runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
