"""What the cost model predicts for many cores: groups x members, and the speed-up over one thread.

The constants are those of csrc/threads/cut.h, which were measured on two cores. How the costs of a region and of a
barrier grow with the threads is assumed there, and not measured. Memory is assumed to keep up, and each core to be as
fast as alone. Short calls may differ, since they are calibrated. One layer, forward.

    python benchmarks/predict_threads.py [--cores N …] [--group NAME …] [--vector-length N]
"""

from __future__ import annotations

import argparse
import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path

from cases import CASES, GATES, Case

CUT_H = Path(__file__).resolve().parents[1] / "csrc" / "threads" / "cut.h"
CLUSTER = 16


def constants() -> dict[str, int]:
    """The enumeration constants of the cost model."""
    text = re.sub(r"/\*.*?\*/", "", CUT_H.read_text(), flags=re.DOTALL)
    found: dict[str, int] = {}
    for name, value in re.findall(r"\b(CUT_\w+) = ([^,}]+)", text):
        numbers = re.sub(r"CUT_\w+", lambda match: str(found[match.group()]), value)
        found[name] = eval(compile(ast.parse(numbers.strip(), mode="eval"), str(CUT_H), "eval"), {})
    return found


C = constants()


@dataclass
class Prediction:
    """One layer of a case, forward, on so many cores."""

    threads: int
    groups: int
    members: int
    speed_up: float


def barrier_growth(members: int) -> float:
    """As cut_barrier_growth: in barriers of two threads."""
    return (members if members <= CLUSTER else CLUSTER + -(-members // CLUSTER)) / 2


def region_growth(threads: int) -> float:
    """As cut_region_growth: in regions of two threads."""
    return 1 + (threads - 2) / C["CUT_REGION_THREADS"]


def group_sequences(weights: float) -> int:
    """As cut_group_sequences."""
    if weights <= 64 << 10:
        return 1
    return C["CUT_SEQUENCES_SMALL"] if weights <= 256 << 10 else C["CUT_SEQUENCES"] if weights <= 2 << 20 else C[
        "CUT_SEQUENCES_FAR"
    ]  # fmt: skip


def split(most: int, threads: int, blocks: int) -> tuple[int, int]:
    """Groups and members, as cut_split."""
    found = most, min(threads // most, blocks)
    if 4 * (threads % most) > threads:
        for groups in range(most - 1, -(-most // 2) - 1, -1):
            members = min(threads // groups, blocks)
            found = (groups, members) if groups * members > found[0] * found[1] else found
    return found


def predict(case: Case, cores: int, vector_length: int) -> Prediction:
    """As cut_threads and cut_split, with the time that the same constants give."""
    G, H, B, T = GATES[case.cell], case.H, case.B, case.T
    blocks, real_bytes = -(-H // vector_length), 8 if case.dtype == "float64" else 4
    step, work = G * H * H * B, G * H * (case.I + H) * B * T
    enough = B // group_sequences(G * H * H * real_bytes)
    members = math.sqrt(max(enough, 1) * step / C["CUT_BARRIER_WORK"])
    members = min(members, G * blocks * B / C["CUT_CHAINS_PER_MEMBER"])
    half = (C["CUT_REGION_THREADS"] - 2) / 2
    threads = math.sqrt(half**2 + work / (2 * C["CUT_REGION_WORK"]) * C["CUT_REGION_THREADS"]) - half
    threads = min(threads, max(enough, members))
    threads = 1 if threads < 2 or work < C["CUT_WORK_MIN"] else min(int(threads), cores, 256)
    if threads == 1:
        return Prediction(1, 1, 1, 1)
    groups, each = split(min(max(enough, 1), threads), threads, blocks)
    slowest = work * (-(-B // groups) / B) * (-(-blocks // each) / blocks)
    waiting = T * C["CUT_BARRIER_WORK"] * barrier_growth(each) if each > 1 else 0
    starting = C["CUT_REGION_WORK"] * region_growth(threads)
    return Prediction(threads, groups, each, work / (slowest + waiting + starting))


def main() -> None:
    """Print the table."""
    groups = sorted({case.group for case in CASES})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, nargs="+", default=[8, 32, 128], help="default: 8, 32 and 128")
    parser.add_argument("--group", nargs="+", choices=groups, default=groups, metavar="NAME", help=", ".join(groups))
    parser.add_argument("--vector-length", type=int, default=8, help="reals in a vector (default: 8)")
    options = parser.parse_args()
    print("| case | " + " | ".join(f"{cores} cores" for cores in options.cores) + " |")
    print("|---|" + "---|" * len(options.cores))
    seen = set()
    for case in CASES:
        shape = case.cell, case.T, case.B, case.I, case.H, case.dtype
        if case.group not in options.group or shape in seen:
            continue
        seen.add(shape)
        found = [predict(case, cores, options.vector_length) for cores in options.cores]
        cells = (f"{one.groups} x {one.members}: {one.speed_up:.1f}" for one in found)
        print(f"| {case.name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
