"""Like typed_program.py, for fastrnn.torch; checked if torch is installed."""

from typing import Any

import fastrnn
import fastrnn.torch
import numpy as np
import torch


@fastrnn.cell(gates="zn")
def minimal(a: Any, s: Any) -> Any:
    h = s.h + fastrnn.sigmoid(a.z) * (np.tanh(a.n) - s.h)
    return h, (h,)


def main() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Flatten())
    report: fastrnn.torch.Report = fastrnn.torch.accelerate(model)
    restored: fastrnn.torch.Report = fastrnn.torch.restore(report.model, inplace=False)
    x = torch.ones(5, 2, 3)
    for layer in (fastrnn.torch.LSTM(3, 4), fastrnn.torch.GRU(3, 4), fastrnn.torch.RNN(3, 4)):
        y: torch.Tensor = layer(x)[0]
        assert y.shape == (5, 2, 4)
    for cell in (fastrnn.torch.LSTMCell(3, 4), fastrnn.torch.GRUCell(3, 4), fastrnn.torch.RNNCell(3, 4)):
        cell(x[0])
    written = fastrnn.torch.Recurrent(minimal, 3, 4, bidirectional=True)
    assert written(x)[0].shape == (5, 2, 8)
    h: torch.Tensor = fastrnn.torch.linear_recurrence(0.5, x, torch.ones(3), lengths=[5, 2], reverse=True)
    assert h.shape == x.shape
    assert isinstance(restored.model, torch.nn.Module)


if __name__ == "__main__":
    main()
