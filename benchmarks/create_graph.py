"""Compare gradients of gradients with torch.nn, on one thread.

Both run the same problem in turns. Times are processor time of the thread, the least of several rounds: a shared
machine disturbs them little.

    python benchmarks/create_graph.py [--rounds N]
"""

from __future__ import annotations

import argparse
import itertools
import time

import fastrnn
import fastrnn.torch
import torch

SIZES = ((200, 8, 64), (50, 32, 128))


def seconds(module: torch.nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Of forward and differentiable gradients, and of their gradients."""
    leaf = x.clone().requires_grad_()
    leaves = [leaf, *module.parameters()]
    begin = time.thread_time()
    gradients = torch.autograd.grad(module(leaf)[0].square().sum(), leaves, create_graph=True)
    middle = time.thread_time()
    torch.autograd.grad(sum(one.square().sum() for one in gradients), leaves)
    return middle - begin, time.thread_time() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="calls of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fastrnn.set_num_threads(1)
    print("cell    T    B    H   gradients   with their gradients   (time of torch.nn / time of fastrnn.torch)")
    for (T, B, H), kind in itertools.product(SIZES, ("LSTM", "GRU", "RNN")):
        modules = [getattr(namespace, kind)(H, H) for namespace in (torch.nn, fastrnn.torch)]
        modules[1].load_state_dict(modules[0].state_dict())
        x, least = torch.randn(T, B, H), [(float("inf"), float("inf"))] * 2
        for _, (j, module) in itertools.product(range(options.rounds + 1), enumerate(modules)):
            least[j] = tuple(map(min, least[j], seconds(module, x)))
        theirs, ours = least
        print(f"{kind:4} {T:4} {B:4} {H:4}   {theirs[0] / ours[0]:9.1f}   {sum(theirs) / sum(ours):20.1f}", flush=True)


if __name__ == "__main__":
    main()
