"""Sections of a page that a command writes: `<!-- small: begin -->` to `<!-- small: end -->`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from results import ResultsError


def begin(name: str) -> str:
    """The comment before a section."""
    return f"<!-- {name}: begin -->"


def end(name: str) -> str:
    """The comment after a section."""
    return f"<!-- {name}: end -->"


def write(path: Path, texts: Mapping[str, str]) -> None:
    """Replace the sections of these names that a page has; ResultsError if it has none."""
    try:
        page = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{path}: expected a page, got: {error.strerror}") from None
    found = [name for name in texts if begin(name) in page and end(name) in page.partition(begin(name))[2]]
    if not found:
        names = " or ".join(f"{begin(name)} and {end(name)}" for name in texts)
        raise ResultsError(f"{path}: expected the comments {names}, got a page without them")
    for name in found:
        before, _, rest = page.partition(begin(name))
        page = f"{before}{begin(name)}\n\n{texts[name]}\n{end(name)}{rest.partition(end(name))[2]}"
    path.write_text(page, encoding="utf-8")
