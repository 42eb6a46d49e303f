"""Small synthetic results of benchmarks/run.py, the same for every test."""

from typing import Any

LIMITS = {"FMA peak, GFLOP/s": 200.0} | {f"{level} read, GB/s": 100.0 for level in ("L1", "L2", "L3", "DRAM")}


def times_of(seconds: float, spread: float = 0.01) -> dict[str, Any]:
    """The entry of a contestant: five rounds around a median."""
    medians = [seconds * (1 + spread * step) for step in (-1, -0.5, 0, 0.5, 1)]
    return {"median": seconds, "p10": seconds * 0.9, "p99": seconds * 2, "medians": medians}


def result_of(
    ours: float, rivals: dict[str, float] | None = None, *, mode="forward", threads=2, spread=0.01, **sizes: Any
) -> dict[str, Any]:
    """An entry of "results"; `sizes` are the sizes that differ from an LSTM with T=B=1, I=H=8."""
    case = {"group": "latency", "cell": "lstm", "T": 1, "B": 1, "I": 8, "H": 8} | sizes
    seconds = {"fastrnn": ours, **(rivals or {"torch": 3 * ours})}
    times = {name: times_of(value, spread) for name, value in seconds.items()}
    return {"case": case, "mode": mode, "threads": threads, "times": times}


def content_of(*results: dict[str, Any], **details: Any) -> dict[str, Any]:
    """A whole file."""
    content = {"machine": "x86_64", "processor": "A processor", "backend": "avx2", "date": "2026-01-02"}
    content |= {"limits": {"2": LIMITS, "1": LIMITS}, "versions": {"fastrnn": "fastrnn 1 (avx2)", "torch": "torch 2"}}
    return content | details | {"results": list(results)}
