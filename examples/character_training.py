"""The training loop: windows of parallel streams, validation after each epoch, checkpoints that continue exactly."""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import fastrnn
import numpy as np
from character_checkpoint import write_checkpoint
from character_model import Adam, CharacterModel, clip_gradients
from character_text import encode, read_text
from numpy.typing import NDArray
from progress_line import ProgressLine

VALIDATION_SHARE = 0.1
VALIDATION_STREAMS = 16
VALIDATION_STEPS = 256


class Training:
    """A model, its text and how far training has come."""

    def __init__(self, options: argparse.Namespace) -> None:
        text = read_text(options.text)
        self.options = options
        self.text_hash = hashlib.sha256(text.encode()).hexdigest()
        self.vocabulary = "".join(sorted(set(text)))
        ids = encode(text, self.vocabulary)
        self.train_ids, self.validation_ids = np.split(ids, [round(len(ids) * (1 - VALIDATION_SHARE))])
        if len(self.validation_ids) <= VALIDATION_STREAMS:
            raise ValueError(f"--text: expected more text, got {len(text)} characters")
        self.windows = fastrnn.Windows(self.train_ids, options.batch_size, options.num_steps, drop_last=False)
        self.validation = fastrnn.Windows(self.validation_ids, VALIDATION_STREAMS, VALIDATION_STEPS, drop_last=False)
        self.model = CharacterModel(
            options.cell, len(self.vocabulary), options.embedding_size, options.hidden_size, options.num_layers,
            options.dropout, seed=options.seed,
        )  # fmt: skip
        self.adam = Adam(self.model.parameters)
        self.state: Any = None
        self.epoch = self.window = 0
        self.interrupted = False
        self.train_curve: list[tuple[int, float]] = []  # (characters seen, bits per character)
        self.validation_curve: list[tuple[int, float]] = []
        self.bits_sum, self.bits_count = 0.0, 0  # of the epoch so far

    @property
    def characters_per_epoch(self) -> int:
        return self.windows.steps * self.windows.batch_size

    @property
    def characters_seen(self) -> int:
        return self.epoch * self.characters_per_epoch + self.bits_count

    def run(self) -> None:
        """Train to the last epoch, or until interrupted."""
        progress = ProgressLine(self.options.epochs * self.characters_per_epoch, self.characters_seen)
        smooth = None
        while self.epoch < self.options.epochs and not self.interrupted:
            while self.window < len(self.windows) and not self.interrupted:
                ids, targets = self.windows[self.window]
                bits = self.step(ids, targets)
                smooth = bits if smooth is None else 0.97 * smooth + 0.03 * bits
                text = f"epoch {self.epoch + 1}/{self.options.epochs}  {smooth:.3f} bits/char"
                progress.advance(ids.size, text)
            if self.window == len(self.windows):
                self.finish_epoch(progress)
        progress.clear()

    def step(self, ids: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
        """One update from one window, and the state carried on to the next; bits per character."""
        done = (self.epoch + self.window / len(self.windows)) / self.options.epochs
        rate = self.options.learning_rate * max(0.05, 1 - done)
        loss, gradients, self.state = self.model.gradients(ids, targets, self.state)
        clip_gradients(gradients, self.options.clip)
        self.adam.update(gradients, rate)
        bits = loss / float(np.log(2))
        self.bits_sum += bits * ids.size
        self.bits_count += ids.size
        self.window += 1
        self.train_curve.append((self.characters_seen, bits))
        return bits

    def finish_epoch(self, progress: ProgressLine) -> None:
        validation = self.validate()
        train = self.bits_sum / self.bits_count
        self.validation_curve.append((self.characters_seen, validation))
        self.epoch, self.window, self.state, self.bits_sum, self.bits_count = self.epoch + 1, 0, None, 0.0, 0
        progress.clear()
        print(
            f"epoch {self.epoch}/{self.options.epochs}: train {train:.3f}, validation {validation:.3f} bits/char,"
            f" {progress.rate:,.0f} char/s",
            flush=True,
        )
        self.save()

    def validate(self) -> float:
        """Bits per character of the validation text, with the state carried through it."""
        total = 0.0
        for ids, targets, state in self.validation:
            bits, self.validation.state = self.model.bits(ids, targets, state)
            total += bits
        return total / (self.validation.steps * self.validation.batch_size)

    def save(self) -> None:
        """Everything that the rest of the training depends on; in place of the file as a whole."""
        states = [] if self.state is None else list(self.state) if isinstance(self.state, tuple) else [self.state]
        write_checkpoint(
            self.options.save,
            {
                "options": vars(self.options),
                "text_hash": self.text_hash,
                "counters": [self.epoch, self.window, self.adam.steps, self.bits_sum, self.bits_count],
                "generator": self.model.rng.bit_generator.state,
            },
            {
                "parameters": self.model.parameters,
                "mean": self.adam.mean,
                "square": self.adam.square,
                "state": {str(j): array for j, array in enumerate(states)},
                "curves": {"train": np.array(self.train_curve), "validation": np.array(self.validation_curve)},
            },
        )

    def restore(self, header: dict[str, Any], arrays: dict[str, dict[str, Any]]) -> None:
        """Continue where the run that wrote a checkpoint stopped."""
        if header["text_hash"] != self.text_hash:
            raise ValueError("--resume: expected the text that the checkpoint was trained on, got another")
        for mine, saved in (
            (self.model.parameters, arrays["parameters"]),
            (self.adam.mean, arrays["mean"]),
            (self.adam.square, arrays["square"]),
        ):
            for name, array in saved.items():
                mine[name][...] = array
        states = [arrays["state"][key] for key in sorted(arrays.get("state", {}))]
        self.state = None if not states else tuple(states) if len(states) == 2 else states[0]
        self.epoch, self.window, self.adam.steps, self.bits_sum, self.bits_count = header["counters"]
        self.model.rng.bit_generator.state = header["generator"]
        self.train_curve = [tuple(point) for point in arrays["curves"]["train"].tolist()]
        self.validation_curve = [tuple(point) for point in arrays["curves"]["validation"].tolist()]
