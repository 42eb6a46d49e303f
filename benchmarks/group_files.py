"""Files of the groups `small` and `cells`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from results import ResultsError

Found = TypeVar("Found")


def read(path: Path, group: str, parse: Callable[[dict[str, Any]], Found]) -> Found:
    """The results of a file; ResultsError if it has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{path}: expected a file of results, got: {error.strerror}") from None
    except ValueError:
        raise ResultsError(f"{path}: expected results of the group {group}, got no JSON") from None
    if not isinstance(content, dict) or content.get("group") != group:
        raise ResultsError(f"{path}: expected results of the group {group}, got another file")
    try:
        return parse(content)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None
