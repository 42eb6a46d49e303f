"""fastrnn.torch in the group `small`: torch's layers and cells, swapped by `accelerate`."""

from __future__ import annotations

from typing import Any

import fastrnn
import fastrnn.torch
import numpy as np
import torch
from small_torch import SmallTorch, module_of
from small_worker import SmallCase, serve


class SmallFastrnnTorch(SmallTorch):
    """What `accelerate` makes of torch's module."""

    def version(self) -> str:
        return f"fastrnn {fastrnn.__version__} in torch {torch.__version__}"

    def module(self, case: SmallCase, data: dict[str, np.ndarray]) -> Any:
        return fastrnn.torch.accelerate(module_of(case, data)).model


if __name__ == "__main__":
    serve(SmallFastrnnTorch)
