"""onnxruntime on the CPU: inference with LSTM, GRU and RNN nodes; onnx_graph.py describes layout and gate order.

x and y are bound once to buffers, so a call neither copies nor allocates them. Threads spin, which is the default.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx_graph import onnx_model
from worker import Call, Case, Contestant, Outputs, Unsupported, serve, states_of


class OnnxRuntime(Contestant):
    """Makes a new session for each case."""

    def version(self) -> str:
        return f"onnxruntime {onnxruntime.__version__}"

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        return options

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        if case.dtype != "float32":
            raise Unsupported("no kernels for double precision")
        model = onnx_model(case, data).SerializeToString()
        session = onnxruntime.InferenceSession(model, self._options(), providers=["CPUExecutionProvider"])
        y = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            [case.T, case.B, case.directions * case.H], data["x"].dtype
        )
        binding = session.io_binding()
        for name in ("x", *states_of(case)):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(data[name]))
        binding.bind_ortvalue_output("y", y)
        return lambda: session.run_with_iobinding(binding), lambda _: {"y": y.numpy()}


if __name__ == "__main__":
    serve(OnnxRuntime)
