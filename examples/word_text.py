"""Texts as word numbers: the distributed files of the Penn Treebank, or any text."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from character_text import read_text
from numpy.typing import NDArray

Ids = NDArray[np.int64]
END, UNKNOWN = "<eos>", "<unk>"
HELD_OUT = 0.05  # the share of any text for validation, and again for the test


class Corpus(NamedTuple):
    train: Ids
    validation: Ids
    test: Ids
    vocabulary: list[str]

    @property
    def hash(self) -> str:
        digest = hashlib.sha256(" ".join(self.vocabulary).encode())
        for ids in self[:3]:
            digest.update(ids.tobytes())
        return digest.hexdigest()


def read_treebank(folder: str, vocabulary_size: int) -> Corpus:
    """ptb.train.txt, ptb.valid.txt and ptb.test.txt: words between spaces, sentences on lines."""
    parts = []
    for name in ("train", "valid", "test"):
        text = (Path(folder) / f"ptb.{name}.txt").read_text(encoding="utf-8")
        parts.append(text.replace("\n", f" {END} ").split())
    return number_words(parts, vocabulary_size)


def read_words(path: str | None, vocabulary_size: int) -> Corpus:
    """Any text in lower case, cut into words, punctuation marks and line ends; the last tenth is held out."""
    text = read_text(path).lower().strip()
    words = [word for line in text.split("\n") for word in (*re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", line), END)]
    first, second = (round(len(words) * (1 - share)) for share in (2 * HELD_OUT, HELD_OUT))
    return number_words([words[:first], words[first:second], words[second:]], vocabulary_size)


def number_words(parts: list[list[str]], vocabulary_size: int) -> Corpus:
    """Number words by frequency in the first part, ties alphabetically; <unk> stands for rarer or new words."""
    counts = Counter(parts[0])
    unknown = counts.pop(UNKNOWN, 0)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    kept = ranked[: vocabulary_size - 1]
    unknown += sum(counts[word] for word in ranked[len(kept) :])
    vocabulary = sorted([*kept, UNKNOWN], key=lambda word: (-(unknown if word == UNKNOWN else counts[word]), word))
    number = {word: j for j, word in enumerate(vocabulary)}
    other = number[UNKNOWN]
    train, validation, test = (np.array([number.get(word, other) for word in part], np.int64) for part in parts)
    return Corpus(train, validation, test, vocabulary)
