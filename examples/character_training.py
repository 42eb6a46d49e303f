"""Training of the character model: Adam with a rate that falls to zero, losses in bits per character."""

from __future__ import annotations

import argparse
import hashlib

import fastrnn
import numpy as np
from character_model import CharacterModel
from character_text import encode, read_text
from gradient_descent import Adam, clip_gradients
from training_loop import Ids, TrainingLoop

VALIDATION_SHARE = 0.1
VALIDATION_STREAMS = 16
VALIDATION_STEPS = 256


class Training(TrainingLoop):
    """A model, its text and the progress of training."""

    program, element = "char_lm", "char"

    def __init__(self, options: argparse.Namespace) -> None:
        text = read_text(options.text)
        self.vocabulary = "".join(sorted(set(text)))
        ids = encode(text, self.vocabulary)
        self.train_ids, self.validation_ids = np.split(ids, [round(len(ids) * (1 - VALIDATION_SHARE))])
        if len(self.validation_ids) <= VALIDATION_STREAMS:
            raise ValueError(f"--text: expected more text, got {len(text)} characters")
        windows = fastrnn.Windows(self.train_ids, options.batch_size, options.num_steps, drop_last=False)
        self.validation = fastrnn.Windows(self.validation_ids, VALIDATION_STREAMS, VALIDATION_STEPS, drop_last=False)
        self.model = CharacterModel(
            options.cell, len(self.vocabulary), options.embedding_size, options.hidden_size, options.num_layers,
            options.dropout, seed=options.seed,
        )  # fmt: skip
        self.adam = Adam(self.model.parameters)
        saved = {"parameters": self.model.parameters, "mean": self.adam.mean, "square": self.adam.square}
        super().__init__(options, windows, hashlib.sha256(text.encode()).hexdigest(), self.model.rng, saved)

    def update(self, ids: Ids, targets: Ids) -> float:
        done = (self.epoch + self.window / len(self.windows)) / self.options.epochs
        loss, gradients, self.state = self.model.gradients(ids, targets, self.state)
        clip_gradients(gradients, self.options.clip)
        self.adam.steps = self.updates  # from the checkpoint, after a resumption
        self.adam.update(gradients, self.options.learning_rate * max(0.05, 1 - done))
        return loss / float(np.log(2))

    def validate(self) -> float:
        """Bits per character of the validation text, with the state carried through it."""
        total = 0.0
        for ids, targets, state in self.validation:
            bits, self.validation.state = self.model.bits(ids, targets, state)
            total += bits
        return total / (self.validation.steps * self.validation.batch_size)

    def described(self, loss: float) -> str:
        return f"{loss:.3f} bits/char"
