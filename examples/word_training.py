"""Training of the word model: perplexities; the state is zeroed at the start of every epoch and carried through it."""

from __future__ import annotations

import argparse

import fastrnn
import numpy as np
from training_loop import Ids, TrainingLoop
from word_model import Config, WordModel
from word_text import Corpus

TEST_STEPS = 1000  # per window; any number gives the same values


class Training(TrainingLoop):
    """A model, its corpus and the progress of training. Losses are in nats per word, shown as perplexities."""

    program, element = "ptb_word_lm", "word"

    def __init__(self, options: argparse.Namespace, config: Config, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        sizes = config.batch_size, config.num_steps
        windows, self.validation = (fastrnn.Windows(ids, *sizes) for ids in (corpus.train, corpus.validation))
        self.test = fastrnn.Windows(corpus.test, 1, TEST_STEPS, drop_last=False)
        self.model = WordModel(config, len(corpus.vocabulary), seed=options.seed)
        saved = {"parameters": self.model.parameters}
        super().__init__(options, windows, corpus.hash, self.model.rng, saved)
        self.last_update = options.max_steps  # of this run

    def update(self, ids: Ids, targets: Ids) -> float:
        loss, self.state = self.model.update(ids, targets, self.state, self.config.rate(self.epoch))
        if self.last_update is not None:
            self.last_update -= 1
            self.interrupted |= self.last_update == 0
        return loss / len(ids)

    def validate(self) -> float:
        return self.mean_loss(self.validation)

    def mean_loss(self, windows: fastrnn.Windows) -> float:
        """Nats per word, without dropout, with the state carried from window to window."""
        total = 0.0
        for ids, targets, state in windows:
            loss, windows.state = self.model.loss(ids, targets, state)
            total += loss
        return total / (windows.steps * windows.batch_size)

    def described(self, loss: float) -> str:
        return f"perplexity {np.exp(loss):.2f}"
