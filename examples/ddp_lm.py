"""Train a character-level model with PyTorch's DistributedDataParallel on fastrnn's kernels, over gloo on CPUs.

    torchrun --nproc-per-node 2 examples/ddp_lm.py      # two processes, half of the streams each
    python examples/ddp_lm.py                           # one process with all streams: the same losses

The text is the documentation that CPython includes. It is cut into --batch-size streams. Each update sees the next
--num-steps characters of every stream; the state is carried on, the gradient is not. Gradients are averaged over the
processes, so the curve equals that of one process with the joint batch, up to rounding.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from pathlib import Path

import fastrnn.torch
import torch
import torch.distributed as dist
from character_text import encode, read_text
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

Tensor = torch.Tensor


class CharacterModel(torch.nn.Module):
    """Embedding, recurrent layers, scores of the next character."""

    def __init__(self, characters: int, cell: str, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(characters, 64)
        self.rnn = getattr(fastrnn.torch, cell)(64, hidden_size, num_layers)
        self.scores = torch.nn.Linear(hidden_size, characters)

    def forward(self, ids: Tensor, state: object) -> tuple[Tensor, object]:
        y, state = self.rnn(self.embedding(ids), state)
        return self.scores(y), state


def parse(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cell", choices=["LSTM", "GRU", "RNN"], default="LSTM")
    p.add_argument("--hidden-size", type=int, default=128, metavar="N")
    p.add_argument("--num-layers", type=int, default=1, metavar="N")
    p.add_argument("--batch-size", type=int, default=32, metavar="N", help="streams, of all processes together")
    p.add_argument("--num-steps", type=int, default=64, metavar="N", help="characters a window")
    p.add_argument("--updates", type=int, default=100, metavar="N")
    p.add_argument("--learning-rate", type=float, default=4e-3, metavar="R")
    p.add_argument("--seed", type=int, default=0, metavar="N")
    p.add_argument("--curve", type=Path, metavar="PATH", help="write the losses, in bits per character, as JSON")
    return p.parse_args(arguments)


def streams_of(text: str, vocabulary: str, batch_size: int) -> Tensor:
    """Return (steps, batch_size): the text in `batch_size` pieces of the same length, side by side."""
    ids = torch.from_numpy(encode(text, vocabulary))
    steps = len(ids) // batch_size
    return ids[: steps * batch_size].reshape(batch_size, steps).T.contiguous()


def detached(state: object) -> object:
    return tuple(member.detach() for member in state) if isinstance(state, tuple) else state.detach()


def train(options: argparse.Namespace, rank: int, world: int) -> list[float]:
    """Bits per character of every update, over all processes."""
    if options.batch_size % world:
        raise SystemExit(f"--batch-size: expected a multiple of the {world} processes, got {options.batch_size}")
    text = read_text(None)
    vocabulary = "".join(sorted(set(text)))
    streams = streams_of(text, vocabulary, options.batch_size).chunk(world, 1)[rank]
    torch.manual_seed(options.seed)
    model = CharacterModel(len(vocabulary), options.cell, options.hidden_size, options.num_layers)
    parallel = DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), options.learning_rate)
    state, losses = None, []
    windows = (len(streams) - 1) // options.num_steps
    for update in range(options.updates):
        start = update % windows * options.num_steps
        ids, targets = (streams[start + shift : start + shift + options.num_steps] for shift in (0, 1))
        scores, state = parallel(ids, state if start else None)
        state = detached(state)
        loss = functional.cross_entropy(scores.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach() / torch.tensor(2.0).log()
        if world > 1:
            dist.all_reduce(total)
        losses.append(total.item() / world)
        if rank == 0 and update % 20 == 0:
            print(f"update {update:4}  {losses[-1]:.3f} bits/char", flush=True)
    return losses


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    begin = time.perf_counter()
    losses = train(options, rank, world)
    if rank == 0:
        print(f"{world} process(es): {losses[-1]:.3f} bits/char in {time.perf_counter() - begin:.1f} s")
        if options.curve is not None:
            options.curve.write_text(json.dumps(losses))
    if world > 1:
        # One in six runs aborted in gloo's threads when a process exited while the other still communicated with it.
        gc.collect()  # DistributedDataParallel is in reference cycles, and must be freed before the group
        dist.barrier()
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
