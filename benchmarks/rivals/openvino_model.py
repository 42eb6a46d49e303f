"""OpenVINO on the CPU: inference with the model of onnx_graph.py, which OpenVINO converts to RNN sequence operations.

x and y are bound once to NumPy buffers that the plugin reads and writes in place. Products stay in single precision: on
a processor with bfloat16 products, the plugin would otherwise choose those.
"""

from __future__ import annotations

import io

import numpy as np
import openvino
from onnx_graph import onnx_model
from worker import Call, Case, Contestant, Outputs, Unsupported, serve, states_of


class OpenVino(Contestant):
    """Makes a new compiled model and one request for each case."""

    def version(self) -> str:
        return f"openvino {openvino.__version__.split('-')[0]}"

    def _configuration(self) -> dict[str, object]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
        }

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        if case.dtype != "float32":
            raise Unsupported("the CPU plugin computes double precision in single")
        core = openvino.Core()
        model = core.read_model(io.BytesIO(onnx_model(case, data).SerializeToString()))
        request = core.compile_model(model, "CPU", self._configuration()).create_infer_request()
        given = {name: data[name] for name in ("x", *states_of(case))}
        y = np.empty((case.T, case.B, case.directions * case.H), case.dtype)
        for name, array in given.items():
            request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        request.set_output_tensor(openvino.Tensor(y, shared_memory=True))
        # A tensor with shared memory does not keep the array alive, so the call does.
        return lambda: (request.infer(share_outputs=True), given, y), lambda found: {"y": found[2]}


if __name__ == "__main__":
    serve(OpenVino)
