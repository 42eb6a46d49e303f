"""Options of the training programs: types of values, and options from a checkpoint as defaults when resuming."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training_checkpoint import read_checkpoint


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
    """A path in an existing folder, so that hours of training do not end in an error."""
    folder = Path(text).parent
    if not folder.is_dir() or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that exists, got {text}")
    return text


def checkpoint_path(text: str) -> str:
    if Path(text).suffix == ".png":
        raise argparse.ArgumentTypeError(f"expected another ending, as the learning curve has this one, got {text}")
    return writable(text)


def parse(
    p: argparse.ArgumentParser, arguments: list[str] | None, program: str, fixed: Sequence[str]
) -> tuple[argparse.Namespace, Any]:
    """Options, and the checkpoint to --resume. Its options are then the defaults; `fixed` options cannot change."""
    options = p.parse_args(arguments)
    if options.resume is None:
        return options, None
    try:
        checkpoint = read_checkpoint(options.resume, program)
    except (OSError, ValueError) as error:
        p.error(f"--resume: {error}")
    saved = checkpoint[0]["options"]
    of_each_run = {name: None for name in ("threads", "max_steps") if name in saved}
    p.set_defaults(**saved | of_each_run | {"resume": None, "save": options.resume})
    options = p.parse_args(arguments)
    for name in fixed:
        if getattr(options, name) != saved[name]:
            p.error(f"--{name.replace('_', '-')}: the checkpoint has {saved[name]}, got {getattr(options, name)}")
    return options, checkpoint
