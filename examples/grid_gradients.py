"""The errors of truncated gradients relative to full backpropagation through time."""

from __future__ import annotations

from typing import Any

import numpy as np
from character_model import CharacterModel
from character_text import Ids
from numpy.typing import NDArray


def gradient_errors(
    model: CharacterModel, ids: Ids, targets: Ids, truncations: list[tuple[int, int]]
) -> list[dict[str, float]]:
    """Of the recurrent layer's parameters, over one long stretch, for each (k1, k2)."""
    full = _gradient(model, ids, targets, None)
    errors = []
    for k1, k2 in truncations:
        truncated = _gradient(model, ids, targets, (k1, k2))
        norm, full_norm = float(np.linalg.norm(truncated)), float(np.linalg.norm(full))
        cosine = float(truncated @ full) / (norm * full_norm)
        errors.append({"k1": k1, "k2": k2, "cosine": round(cosine, 7), "norm_ratio": round(norm / full_norm, 7)})
    return errors


def _gradient(model: CharacterModel, ids: Ids, targets: Ids, truncation: Any) -> NDArray[np.float64]:
    _, gradients, _ = model.gradients(ids, targets, None, truncation=truncation)
    return np.concatenate([gradients[name].ravel() for name in model.layers.parameters]).astype(float)
