"""Weights of other frameworks into fastrnn's layers, and back. No framework is needed, only its arrays.

PyTorch (`from_torch`), Keras (`from_keras`), ONNX (`from_onnx`), TensorFlow 1 (`from_tensorflow1`), each with its
`to_…`. Where a framework keeps each layer of a stack by itself, `stack` and `unstack` join and part them. What fastrnn
cannot compute is refused. Names, layouts and options side by side: docs/coming-from.md.
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
