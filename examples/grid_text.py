"""Learning from a text: the loss after equal numbers of characters, and the length of context that the model uses."""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from character_model import Array, CharacterModel
from character_text import Ids, encode
from gradient_descent import Adam, clip_gradients
from grid_settings import Settings

VALIDATION_STREAMS = 32
VALIDATION_STEPS = 256
VALIDATION_SHARE = 0.1


class TextExperiments:
    """Trainings on one text, all from the same weights."""

    def __init__(self, text: str, settings: Settings) -> None:
        self.settings = settings
        vocabulary = "".join(sorted(set(text)))
        ids = encode(text, vocabulary)
        self.size = len(vocabulary)
        self.train_ids, self.validation_ids = np.split(ids, [round(len(ids) * (1 - VALIDATION_SHARE))])
        needed = max(settings.characters, settings.gradient_streams * settings.gradient_steps)
        if len(self.train_ids) <= needed:
            raise ValueError(f"--text: expected more than {needed / (1 - VALIDATION_SHARE):.0f} characters")

    def windows(self, B: int, T: int) -> fastrnn.Windows:
        """Windows with the same characters for every B and T, as far as T divides a stream."""
        n = self.settings.characters
        return fastrnn.Windows(self.train_ids[:n], B, T, targets=self.train_ids[1 : n + 1], drop_last=False)

    def new_model(self) -> CharacterModel:
        return CharacterModel("lstm", self.size, self.settings.embedding_size, self.settings.hidden_size)

    def trained(self, B: int, T: int, rate: float) -> CharacterModel:
        """Train for one pass over the characters, with the state carried between windows; the rate falls to zero."""
        model, windows = self.new_model(), self.windows(B, T)
        adam = Adam(model.parameters)
        for number, (ids, targets, state) in enumerate(windows):
            _, gradients, windows.state = model.gradients(ids, targets, state)
            clip_gradients(gradients, 1.0)
            adam.update(gradients, rate * max(0.05, 1 - number / len(windows)))
        return model

    def measure_loss(self, B: int, T: int, rate: float) -> dict[str, Any]:
        """Bits per character of the validation text, with the state carried through it; for some B, also by context."""
        model = self.trained(B, T, rate)
        windows = fastrnn.Windows(self.validation_ids, VALIDATION_STREAMS, VALIDATION_STEPS, drop_last=False)
        total = 0.0
        for ids, targets, state in windows:
            bits, windows.state = model.bits(ids, targets, state)
            total += bits
        found = {"updates": len(self.windows(B, T)), "bits": round(total / (windows.steps * VALIDATION_STREAMS), 4)}
        if self.settings.context_batch_size == B:
            found["context_bits"] = [self._context_bits(model, context) for context in self.settings.contexts]
        return found

    def _context_bits(self, model: CharacterModel, context: int) -> float:
        """Bits per character if the model starts from the zero state and has seen only `context` characters."""
        longest = max(self.settings.contexts)
        ends = np.linspace(longest, len(self.validation_ids) - 1, self.settings.context_targets).astype(int)
        ids = self.validation_ids[np.arange(-context, 0)[:, None] + ends]
        y, _ = model.layers(model.parameters["embedding"][ids])
        return round(model.output.loss(y[-1], self.validation_ids[ends]) / len(ends) / float(np.log(2)), 4)

    def stretch(self) -> tuple[Ids, Ids]:
        """The last part of the training text, inputs and targets, as long streams."""
        B, T = self.settings.gradient_streams, self.settings.gradient_steps
        stretch: Array = self.train_ids[-B * T - 1 :]
        return stretch[:-1].reshape(B, T).T, stretch[1:].reshape(B, T).T
