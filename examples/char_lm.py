"""Train a character-level language model with fastrnn and NumPy, by truncated backpropagation through time.

The text is cut into --batch-size streams that advance side by side; each update sees the next --num-steps characters of
every stream; the state is carried from window to window, the gradient is not. Those are the two numbers of an RNN:
batch size is how many sequences share each weight that is loaded, time steps is how far back the gradient reaches.

    python examples/char_lm.py                          # the documentation that CPython carries; two minutes
    python examples/char_lm.py --text book.txt --cell gru --epochs 20 --save book.npz
    python examples/char_lm.py --resume book.npz        # continues bit for bit
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

# NumPy's own products are small here, and the threads of its BLAS would spin on the cores that the layers use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastrnn
import numpy as np
from character_checkpoint import read_checkpoint
from character_model import LAYERS
from character_plot import plot_curve
from character_text import trigram_bits
from character_training import Training

# What a checkpoint fixes; other options may change when training is resumed.
FIXED = ("cell", "embedding_size", "hidden_size", "num_layers", "dropout", "batch_size", "num_steps", "seed")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--text", metavar="PATH", help="a UTF-8 text (default: CPython's own documentation)")
    p.add_argument("--cell", choices=list(LAYERS), default="lstm")
    p.add_argument("--embedding-size", type=positive, default=64, metavar="N")
    p.add_argument("--hidden-size", type=positive, default=256, metavar="N")
    p.add_argument("--num-layers", type=positive, default=1, metavar="N")
    p.add_argument("--dropout", type=probability, default=0.0, metavar="P", help="between layers")
    p.add_argument("--batch-size", type=positive, default=32, metavar="N", help="streams side by side (default 32)")
    p.add_argument("--num-steps", type=positive, default=64, metavar="N", help="characters a window (default 64)")
    p.add_argument("--epochs", type=positive, default=5, metavar="N")
    p.add_argument(
        "--learning-rate", type=positive_real, default=4e-3, metavar="R", help="of Adam; falls to zero linearly"
    )
    p.add_argument("--clip", type=positive_real, default=1.0, metavar="NORM", help="of all gradients together")
    p.add_argument("--seed", type=seed, default=0, metavar="N")
    p.add_argument("--threads", type=positive, metavar="N", help="default: as many as OpenMP finds")
    p.add_argument(
        "--save",
        type=writable,
        default="char_lm.npz",
        metavar="PATH",
        help="checkpoint, after each epoch and on Ctrl-C",
    )
    p.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its options")
    p.add_argument("--sample", type=int, default=400, metavar="N", help="characters to generate at the end")
    p.add_argument("--temperature", type=positive_real, default=0.7, metavar="T", help="of the sample")
    return p


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {number}")
    return number


def positive_real(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return number


def probability(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a probability in [0, 1), got {text}")
    return number


def writable(text: str) -> str:
    """A path whose folder exists, so that hours of training do not end in an error."""
    folder = Path(text).parent
    if not folder.is_dir() or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text}")
    if Path(text).suffix == ".png":
        raise argparse.ArgumentTypeError(f"expected another ending, as the learning curve has this one, got {text}")
    return text


def parse(arguments: list[str] | None) -> tuple[argparse.Namespace, Any]:
    """Options, and the checkpoint to resume, whose options are the defaults then."""
    p = parser()
    options = p.parse_args(arguments)
    if options.resume is None:
        return options, None
    try:
        checkpoint = read_checkpoint(options.resume)
    except (OSError, ValueError) as error:
        p.error(f"--resume: {error}")
    saved = checkpoint[0]["options"]
    p.set_defaults(**saved | {"resume": None, "save": options.resume, "threads": None})
    options = p.parse_args(arguments)
    for name in FIXED:
        if getattr(options, name) != saved[name]:
            p.error(f"--{name.replace('_', '-')}: the checkpoint has {saved[name]}, got {getattr(options, name)}")
    return options, checkpoint


def main(arguments: list[str] | None = None) -> int:
    options, checkpoint = parse(arguments)
    if options.threads:
        fastrnn.set_num_threads(options.threads)
    try:
        training = Training(options)
        if checkpoint:
            training.restore(*checkpoint)
    except (OSError, ValueError) as error:
        parser().error(str(error))
    trigram = trigram_bits(training.train_ids, training.validation_ids, len(training.vocabulary))
    print(
        f"{len(training.train_ids):,} characters to train on, {len(training.validation_ids):,} to validate,"
        f" {len(training.vocabulary)} different; a trigram model takes {trigram:.3f} bits/char"
    )
    print(f"{training.model.layers}\n{training.windows.steps:,} steps x {options.batch_size} streams an epoch")

    def interrupt(*_: object) -> None:
        """Stop after the current window, so that the checkpoint is whole; a second Ctrl-C stops at once."""
        training.interrupted = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupt)
    begin = time.perf_counter()
    training.run()
    signal.signal(signal.SIGINT, before)
    if training.interrupted:
        training.save()
        print(f"interrupted; continue with --resume {options.save}")
        return 130
    if training.validation_curve:
        last = training.validation_curve[-1][1]
        print(f"validation {last:.3f} bits/char, trigram {trigram:.3f}, in {time.perf_counter() - begin:.0f} s")
    drawn = training.model.sample(
        int(training.validation_ids[0]), options.sample, options.temperature, np.random.default_rng(options.seed)
    )
    print("a sample:\n" + "".join(training.vocabulary[j] for j in drawn))
    curve = Path(options.save).with_suffix(".png")
    if plot_curve(training, trigram, curve):
        print(f"learning curve: {curve}")
    print(f"checkpoint: {options.save}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
