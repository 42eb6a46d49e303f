"""The training loop: windows of parallel streams, validation after each epoch, checkpoints that resume exactly."""

from __future__ import annotations

import argparse
import signal
from typing import Any

import fastrnn
import numpy as np
from numpy.typing import NDArray
from progress_line import ProgressLine
from training_checkpoint import Groups, write_checkpoint

Array = NDArray[Any]
Arrays = dict[str, Array]
Ids = NDArray[np.int64]


class TrainingLoop:
    """The progress of training. A program defines how to make an update, to validate, and to describe a loss.

    Losses are means over elements (characters, words), in the program's unit. Curves are lists of (elements seen,
    loss).
    """

    program: str  # the program that owns the checkpoints
    element: str  # in rates

    def __init__(
        self, options: argparse.Namespace, windows: fastrnn.Windows, text_hash: str, rng: np.random.Generator,
        saved: dict[str, Arrays],
    ) -> None:  # fmt: skip
        """`saved` has groups of arrays that are updated in place and belong in a checkpoint."""
        self.options, self.windows, self.text_hash, self.rng, self.saved = options, windows, text_hash, rng, saved
        self.state: Any = None
        self.epoch = self.window = self.updates = 0
        self.interrupted = False
        self.train_curve: list[tuple[int, float]] = []
        self.validation_curve: list[tuple[int, float]] = []
        self.loss_sum, self.loss_count = 0.0, 0  # of the epoch so far

    def update(self, ids: Ids, targets: Ids) -> float:
        """Make one update from one window and carry `self.state` on; return the loss before the update."""
        raise NotImplementedError

    def validate(self) -> float:
        raise NotImplementedError

    def described(self, loss: float) -> str:
        raise NotImplementedError

    @property
    def elements_per_epoch(self) -> int:
        return self.windows.steps * self.windows.batch_size

    @property
    def elements_seen(self) -> int:
        return self.epoch * self.elements_per_epoch + self.loss_count

    def run(self) -> None:
        """Train to the last epoch, or until interrupted.

        Ctrl-C stops after the current window, so the checkpoint is complete; a second Ctrl-C stops at once.
        """

        def interrupt(*_: object) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            self._run()
        finally:
            signal.signal(signal.SIGINT, before)
        if self.interrupted:
            self.save()

    def _run(self) -> None:
        epochs = self.options.epochs
        progress = ProgressLine(epochs * self.elements_per_epoch, self.elements_seen, self.element)
        smooth = None
        while self.epoch < epochs and not self.interrupted:
            while self.window < len(self.windows) and not self.interrupted:
                ids, targets = self.windows[self.window]
                loss = self.step(ids, targets)
                smooth = loss if smooth is None else 0.97 * smooth + 0.03 * loss
                progress.advance(ids.size, f"epoch {self.epoch + 1}/{epochs}  {self.described(smooth)}")
            if self.window == len(self.windows):
                self.finish_epoch(progress)
        progress.clear()

    def step(self, ids: Ids, targets: Ids) -> float:
        """Make an update and count it."""
        loss = self.update(ids, targets)
        self.loss_sum += loss * ids.size
        self.loss_count += ids.size
        self.window += 1
        self.updates += 1
        self.train_curve.append((self.elements_seen, loss))
        return loss

    def finish_epoch(self, progress: ProgressLine) -> None:
        rate = progress.rate
        train, validation = self.loss_sum / self.loss_count, self.validate()
        self.validation_curve.append((self.elements_seen, validation))
        self.epoch, self.window, self.state, self.loss_sum, self.loss_count = self.epoch + 1, 0, None, 0.0, 0
        progress.clear()
        print(
            f"epoch {self.epoch}/{self.options.epochs}: train {self.described(train)},"
            f" validation {self.described(validation)}, {rate:,.0f} {self.element}/s",
            flush=True,
        )
        self.save()

    def save(self) -> None:
        """Write everything that the rest of the training depends on; this replaces the whole file."""
        states = [] if self.state is None else list(self.state) if isinstance(self.state, tuple) else [self.state]
        write_checkpoint(
            self.options.save,
            {
                "format": self.program,
                "options": vars(self.options),
                "text_hash": self.text_hash,
                "counters": [self.epoch, self.window, self.updates, self.loss_sum, self.loss_count],
                "generator": self.rng.bit_generator.state,
            },
            self.saved
            | {
                "state": {str(j): array for j, array in enumerate(states)},
                "curves": {"train": np.array(self.train_curve), "validation": np.array(self.validation_curve)},
            },
        )

    def restore(self, header: dict[str, Any], groups: Groups) -> None:
        """Continue from a checkpoint."""
        if header["text_hash"] != self.text_hash:
            raise ValueError("--resume: expected the text that the checkpoint was trained on, got another")
        for group, members in self.saved.items():
            for name, array in members.items():
                array[...] = groups[group][name]
        states = [groups["state"][key] for key in sorted(groups.get("state", {}))]
        self.state = None if not states else tuple(states) if len(states) == 2 else states[0]
        self.epoch, self.window, self.updates, self.loss_sum, self.loss_count = header["counters"]
        self.rng.bit_generator.state = header["generator"]
        self.train_curve = [tuple(point) for point in groups["curves"]["train"].tolist()]
        self.validation_curve = [tuple(point) for point in groups["curves"]["validation"].tolist()]
