"""``python -m fastrnn``: prints the installation for a bug report, and runs a self-test."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from .config import show_config
from .testing import self_test


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fastrnn", description=__doc__, epilog="Exit status: 1 if it fails."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-self-test", action="store_true", help="only print how it was built and what it chose")
    return parser.parse_args(arguments)


def _print_as_json(tested: bool) -> bool:
    checks = list(self_test.run()) if tested else []
    found = {"config": show_config(mode="dicts"), "self_test": [asdict(check) for check in checks]}
    print(json.dumps(found, indent=2))
    return all(check.error is None for check in checks)


def _print_as_text(tested: bool) -> bool:
    show_config()
    failed = passed = 0
    for check in self_test.run() if tested else ():
        if check.error is None:
            passed += 1
        else:
            failed += 1
            print(f"FAILED  {check.name}: {check.error}", flush=True)
    if tested:
        print(f"{'self-test':17}{passed} of {passed + failed} checks passed")
    return failed == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 if a check failed, otherwise 0."""
    options = _parse(arguments)
    show = _print_as_json if options.json else _print_as_text
    return 0 if show(not options.no_self_test) else 1


if __name__ == "__main__":
    sys.exit(main())
