"""The learning curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from character_training import Training


def plot_curve(training: Training, trigram: float, path: Path) -> bool:
    """The learning curve as a PNG; False where matplotlib is missing."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return False
    seen, bits = np.array(training.train_curve).T
    width = max(1, len(bits) // 300)
    cut = len(bits) // width * width
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(
        seen[:cut].reshape(-1, width).mean(1) / 1e6, bits[:cut].reshape(-1, width).mean(1), color="#7aa6d6",
        label="training windows",
    )  # fmt: skip
    if training.validation_curve:
        seen, bits = np.array(training.validation_curve).T
        axes.plot(seen / 1e6, bits, "o-", color="#c2410c", label=f"validation, at last {bits[-1]:.3f}")
    axes.axhline(trigram, color="#555555", linestyle="--", linewidth=1, label=f"trigram, {trigram:.3f}")
    options = training.options
    axes.set(
        xlabel="million characters seen", ylabel="bits per character",
        title=f"{options.cell}, {options.num_layers} x {options.hidden_size} units,"
              f" batch size {options.batch_size}, {options.num_steps} time steps",
    )  # fmt: skip
    axes.set_ylim(top=min(axes.get_ylim()[1], trigram + 1.5))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True
