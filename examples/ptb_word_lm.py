"""The word-level language model of TensorFlow's RNN tutorial, in its three sizes, with fastrnn and NumPy.

Two LSTM layers of 200, 650 or 1500 units read the Penn Treebank in 20 parallel streams; each update sees the next 20 or
35 words of every stream. The state is carried from window to window, the gradient is not. The tutorial's test
perplexities after 13, 39 and 55 epochs are 115.91, 82.07 and 78.29.

    python examples/ptb_word_lm.py --data simple-examples/data             # ptb.train.txt, ptb.valid.txt, ptb.test.txt
    python examples/ptb_word_lm.py --text book.txt --config medium         # any text; its last tenth is held out
    python examples/ptb_word_lm.py --epochs 4                              # the documentation that CPython includes
    python examples/ptb_word_lm.py --resume ptb_word_lm.npz                # continues bit for bit
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# The softmax has its own threads, and runs BLAS on one thread in each of them (softmax_output.py). These threads share
# the cores with the threads of GNU OpenMP, which spin for milliseconds after the recurrent layers. An update of "small"
# then takes 52 to 59 ms on two cores, 47 to 48 ms if OpenMP's threads sleep at once (OMP_WAIT_POLICY=passive), and 44
# ms with this setting.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import fastrnn
import numpy as np
from learning_plot import plot_curves
from training_options import checkpoint_path, parse, positive, seed
from word_model import CONFIGS
from word_text import Corpus, read_treebank, read_words
from word_training import Training

# Options that a checkpoint fixes; other options may change when training is resumed.
FIXED = ("config", "vocabulary_size", "seed")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = p.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help="with ptb.train.txt, ptb.valid.txt and ptb.test.txt")
    source.add_argument("--text", metavar="FILE", help="a UTF-8 text (default: CPython's own documentation)")
    p.add_argument("--config", choices=list(CONFIGS), default="small")
    p.add_argument("--vocabulary-size", type=positive, default=10_000, metavar="N", help="default 10000")
    p.add_argument("--epochs", type=positive, metavar="N", help="default: those of the configuration")
    p.add_argument("--max-steps", type=positive, metavar="N", help="stop after N updates of this run, as Ctrl-C would")
    p.add_argument("--seed", type=seed, default=0, metavar="N")
    p.add_argument("--threads", type=positive, metavar="N", help="default: as many as OpenMP finds")
    p.add_argument(
        "--checkpoint", dest="save", type=checkpoint_path, default="ptb_word_lm.npz", metavar="PATH",
        help="written after each epoch and on Ctrl-C",
    )  # fmt: skip
    p.add_argument("--resume", metavar="PATH", help="continue from a checkpoint, with its options")
    return p


def read(options: argparse.Namespace) -> Corpus:
    if options.data is not None and options.text is not None:
        raise ValueError("--data, --text: expected one of them; the checkpoint has the other")
    if options.data is not None:
        return read_treebank(options.data, options.vocabulary_size)
    return read_words(options.text, options.vocabulary_size)


def main(arguments: list[str] | None = None) -> int:
    options, checkpoint = parse(parser(), arguments, Training.program, FIXED)
    config = CONFIGS[options.config]
    options.epochs = options.epochs or config.epochs
    if options.threads:
        fastrnn.set_num_threads(options.threads)
    try:
        training = Training(options, config, read(options))
        if checkpoint:
            training.restore(*checkpoint)
    except (OSError, ValueError) as error:
        parser().error(str(error))
    words = ", ".join(f"{len(ids):,} {name}" for name, ids in training.corpus._asdict().items() if name != "vocabulary")
    print(f"words: {words}; vocabulary {len(training.corpus.vocabulary):,}\n{training.model.layers}", flush=True)
    training.run()
    if training.interrupted:
        print(f"interrupted after {training.updates:,} updates; continue with --resume {options.save}")
        return 130
    print(f"test perplexity {np.exp(training.mean_loss(training.test)):.2f}")
    curve = Path(options.save).with_suffix(".png")
    title = f"{options.config}: {config.num_layers} x {config.hidden_size} units, {config.num_steps} time steps"
    curves, described = (training.train_curve, training.validation_curve), training.described
    if plot_curves(curve, *curves, "words", "nats per word (log of perplexity)", described, title):
        print(f"learning curve: {curve}")
    print(f"checkpoint: {options.save}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
