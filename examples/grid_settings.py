"""Sizes of the experiments of batch_vs_steps.py: the whole grid, and a grid of a few seconds."""

from __future__ import annotations

from dataclasses import dataclass

POWERS_OF_4 = (1, 4, 16, 64, 256)
POWERS_OF_2 = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Settings:
    """Sizes of all experiments. Results belong to the settings of their measurement."""

    batch_sizes: tuple[int, ...] = POWERS_OF_4
    window_lengths: tuple[int, ...] = POWERS_OF_4
    hidden_size: int = 128  # of the text's model, an LSTM
    embedding_size: int = 32
    # Timings
    rounds: int = 10
    seconds: float = 0.04  # each timing repeats its call for this long, but at least once
    layer_sizes: tuple[int, ...] = (128, 512, 1500)  # an LSTM layer alone, I = H
    layer_batch_sizes: tuple[int, ...] = POWERS_OF_2
    layer_steps: int = 32
    product_size: int = 2048
    memory_batch_sizes: tuple[int, ...] = (16, 64, 256)
    memory_checkpoint: int = 16
    # Learning from the text
    characters: int = 1 << 17
    learning_rates: tuple[float, ...] = (5e-4, 2e-3, 8e-3)
    context_batch_size: int = 16
    contexts: tuple[int, ...] = POWERS_OF_2
    context_targets: int = 4096
    # Truncated gradients
    gradient_streams: int = 32
    gradient_steps: int = 1024
    gradient_training: tuple[int, int, float] = (16, 64, 2e-3)  # B, T and rate of the trained model
    reaches: tuple[int, ...] = (*POWERS_OF_2, 512)
    overlapping: tuple[int, ...] = (1, 4, 16)  # these k1 with k2 > k1
    stages_most: int = 64  # only if k2 / k1 is at most this
    # The delayed echo
    echo_windows: tuple[int, ...] = (1, 2, 4, 8, 16)
    echo_delays: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 17, 20, 24, 31, 32)
    echo_hidden_size: int = 64
    echo_batch_size: int = 32
    echo_steps: int = 64
    echo_updates: int = 400
    echo_gradient_delay: int = 8


FULL = Settings()
QUICK = Settings(
    batch_sizes=(1, 4),
    window_lengths=(4, 16),
    hidden_size=16,
    embedding_size=8,
    rounds=2,
    seconds=0.001,
    layer_sizes=(16, 32),
    layer_batch_sizes=(1, 4, 8),
    layer_steps=4,
    product_size=64,
    memory_batch_sizes=(64,),
    characters=2048,
    learning_rates=(2e-3, 8e-3),
    context_batch_size=4,
    contexts=(1, 4, 16),
    context_targets=64,
    gradient_streams=4,
    gradient_steps=64,
    gradient_training=(4, 16, 8e-3),
    reaches=(1, 4, 16, 64),
    overlapping=(4,),
    stages_most=16,
    echo_windows=(2, 4),
    echo_delays=(1, 2, 3, 4),
    echo_hidden_size=16,
    echo_batch_size=16,
    echo_steps=32,
    echo_updates=150,
    echo_gradient_delay=4,
)
