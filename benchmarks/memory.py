"""The memory that checkpoints save in training, and the time that they take.

Each variant runs in a separate process. The result is the peak resident memory minus the memory that the process held
with the user's arrays (x, y, dy, dx and parameters) in place.

    python benchmarks/memory.py [--steps T] [--threads N] [--truncation K1 K2] [--check]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import fastrnn
import numpy as np

B, H = 8, 128
WAYS: list[str] = ["None", "1", "35", "142", "500"]
LIMITS = (8.0, 1.5)  # for --check at n = sqrt(T): the least factor of memory saved, the largest factor of time


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


def run(way: str, T: int, threads: int, truncation: tuple[int, int] | None) -> None:
    """In a separate process: print the bytes beyond the user's arrays and the seconds of forward and backward."""
    fastrnn.set_num_threads(threads)
    layer = fastrnn.LSTM(H, H, seed=0)
    x = np.random.default_rng(0).standard_normal((T, B, H)).astype(np.float32)
    dy = np.ones((T, B, H), np.float32)
    checkpoint = None if way == "None" else int(way)
    small = layer.forward(x[:50], checkpoint=checkpoint)
    layer.backward(small[2], dy[:50])
    users = 2 * dy.nbytes  # y and dx
    before = resident_bytes()
    begin = time.perf_counter()
    _, _, tape = layer.forward(x, checkpoint=checkpoint)
    gradients = layer.backward(tape, dy, truncation=truncation)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    digest = float(np.abs(gradients.parameters["weight_hh_l0"]).sum())
    print(json.dumps([peak - before - users, seconds, digest]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000, metavar="T", help="default 20000")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if checkpoints at sqrt(T) save too little or take too long"
    )
    parser.add_argument("--truncation", type=int, nargs=2, metavar=("K1", "K2"), help="of backward (default none)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        run(arguments.way, arguments.steps, arguments.threads, arguments.truncation)
        return 0
    print(f"LSTM T={arguments.steps} B={B} H={H}, forward and backward; memory beyond x, y, dy, dx")
    results = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--steps", str(arguments.steps)]
        command += ["--threads", str(arguments.threads)]
        command += ["--truncation", *map(str, arguments.truncation)] if arguments.truncation else []
        rounds = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(3)]
        results[way] = tuple(sorted(column)[1] for column in zip(*rounds, strict=True))
        held, seconds, digest = results[way]
        base = results["None"]
        print(
            f"checkpoint={way:5} {held / 1e6:8.1f} MB ({base[0] / held:5.1f} times less)  {seconds * 1e3:8.0f} ms"
            f" (ratio {seconds / base[1]:.2f})  gradients {'equal' if digest == base[2] else 'DIFFER'}",
            flush=True,
        )
    held, seconds, _ = results["142"]
    good = results["None"][0] / held >= LIMITS[0] and seconds / results["None"][1] <= LIMITS[1]
    return 0 if good or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
