"""Conversion of weights from other frameworks to fastrnn's layers, and back. It needs no framework, only arrays.

PyTorch (`from_torch`), Keras (`from_keras`), ONNX (`from_onnx`) and TensorFlow 1 (`from_tensorflow1`) each have a
`to_…`. Some frameworks keep each layer of a stack separately; `stack` and `unstack` join and split such layers. Options
that fastrnn cannot compute are refused. docs/coming-from.md compares names, layouts and options.
"""

from .keras import from_keras, to_keras
from .onnx import OnnxNode, from_onnx, to_onnx
from .pytorch import from_torch, to_torch
from .stacking import stack, unstack
from .tensorflow1 import from_tensorflow1, to_tensorflow1

__all__ = [
    "OnnxNode",
    "from_keras",
    "from_onnx",
    "from_tensorflow1",
    "from_torch",
    "stack",
    "to_keras",
    "to_onnx",
    "to_tensorflow1",
    "to_torch",
    "unstack",
]
