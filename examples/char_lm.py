"""Train a character-level language model with fastrnn and NumPy, by truncated backpropagation through time.

The text is cut into --batch-size streams that advance side by side. Each update sees the next --num-steps characters of
every stream. The state is carried from window to window, the gradient is not. These are the two numbers of an RNN: the
batch size is the number of sequences that share each loaded weight; the number of time steps is the distance over which
the gradient reaches back.

    python examples/char_lm.py                          # the documentation that CPython includes; two minutes
    python examples/char_lm.py --text book.txt --cell gru --epochs 20 --save book.npz
    python examples/char_lm.py --resume book.npz        # continues bit for bit
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# NumPy's products are small here, and the threads of its BLAS would spin on the cores that the layers use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastrnn
import numpy as np
from character_model import LAYERS
from character_text import trigram_bits
from character_training import Training
from learning_plot import plot_curves
from training_options import checkpoint_path, parse, positive, positive_real, probability, seed

# Options that a checkpoint fixes; other options may change when training is resumed.
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
        type=checkpoint_path,
        default="char_lm.npz",
        metavar="PATH",
        help="checkpoint, after each epoch and on Ctrl-C",
    )
    p.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its options")
    p.add_argument("--sample", type=int, default=400, metavar="N", help="characters to generate at the end")
    p.add_argument("--temperature", type=positive_real, default=0.7, metavar="T", help="of the sample")
    return p


def main(arguments: list[str] | None = None) -> int:
    options, checkpoint = parse(parser(), arguments, Training.program, FIXED)
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
    begin = time.perf_counter()
    training.run()
    if training.interrupted:
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
    title = (
        f"{options.cell}, {options.num_layers} x {options.hidden_size} units,"
        f" batch size {options.batch_size}, {options.num_steps} time steps"
    )
    curves, described = (training.train_curve, training.validation_curve), training.described
    if plot_curves(curve, *curves, "characters", "bits per character", described, title, ("trigram", trigram)):
        print(f"learning curve: {curve}")
    print(f"checkpoint: {options.save}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
