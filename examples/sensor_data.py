"""Measured series from the wheel of the package sktime, as arrays for recurrent layers.

BasicMotions: a smart watch on the wrist, 3 axes of acceleration and 3 of rotation, 10 samples a second for 10 seconds;
people stand, walk, run and play badminton. JapaneseVowels (Kudo et al. 1999): two vowels in a row, spoken by nine men,
as 12 cepstrum coefficients per frame, 7 to 29 frames long.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Motions(NamedTuple):
    """Recordings of equal length."""

    x: Array  # (T, B, 6) float32
    activities: list[str]  # B activities


class Vowels(NamedTuple):
    """Utterances of different lengths, padded with zeros to the longest."""

    x: Array  # (T, B, 12) float32
    lengths: Array  # (B,)
    speakers: Array  # (B,) from 0 to 8


def read_motions(split: str) -> Motions:
    """`split` is "train" or "test"; 40 recordings each."""
    from sktime.datasets import load_basic_motions

    recordings, activities = load_basic_motions(split=split, return_type="numpy3D")  # (B, 6, T)
    # Time steps first: the layers read x[0], then x[1], …, and each x[t] is one (B, I) matrix for all sequences.
    return Motions(np.ascontiguousarray(recordings.transpose(2, 0, 1), np.float32), list(map(str, activities)))


def read_vowels(split: str) -> Vowels:
    """`split` is "train" (270 utterances) or "test" (370)."""
    from sktime.datasets import load_japanese_vowels

    utterances, speakers = load_japanese_vowels(split=split, return_type="df-list")  # B tables of (length, 12)
    x, lengths = padded([table.to_numpy(np.float32) for table in utterances])
    return Vowels(x, lengths, speakers.astype(int) - 1)


def padded(sequences: list[Array]) -> tuple[Array, Array]:
    """(length, I) arrays side by side in one (T, B, I) array, and their lengths. The padding is never read."""
    lengths = np.array([len(sequence) for sequence in sequences])
    x = np.zeros((lengths.max(), len(sequences), sequences[0].shape[1]), sequences[0].dtype)
    for b, sequence in enumerate(sequences):
        x[: len(sequence), b] = sequence
    return x, lengths


class Scaling(NamedTuple):
    """Each value's mean and standard deviation over the training data."""

    mean: Array  # (I,)
    deviation: Array

    def __call__(self, x: Array) -> Array:
        scaled: Array = (x - self.mean) / self.deviation
        return scaled


def scaling_of(x: Array, lengths: Array | None = None) -> Scaling:
    """Compute the scaling from all valid time steps of x (T, B, I)."""
    valid = np.ones(x.shape[:2], bool) if lengths is None else np.arange(len(x))[:, None] < lengths
    return Scaling(x[valid].mean(axis=0), x[valid].std(axis=0))
