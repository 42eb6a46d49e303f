"""Results of `run.py` as one self-contained HTML page, and the charts as PNG.

    python benchmarks/run.py --suite full --threads 2 1 --json results.json
    python benchmarks/report.py results.json --out report        report/index.html and report/*.png

The page loads nothing and shows, in a light or a dark theme: our ratio to the fastest and to each rival, shares of the
machine's limits, curves over batch size and time steps, latency percentiles and a table of all cases. Several files of
one machine make one page; if several files have a case, the last file counts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from case_charts import limit_figure, ratio_figure
    from contestant_charts import curve_figures, latency_figure, rival_figure
    from page import page_of
    from panels import Figure, save_png, svg_of
    from results import Results, ResultsError, merge, read
except ModuleNotFoundError as missing:
    text = f"report.py: {missing.name} is not installed; in the repository: pip install '.[benchmarks]'"
    raise SystemExit(text) from None


def figures_of(results: Results) -> list[Figure]:
    """All figures that the results have cases for."""
    found = [ratio_figure(results), limit_figure(results), *curve_figures(results)]
    found += [latency_figure(results), rival_figure(results)]
    return [figure for figure in found if figure.panels]


def command_of(results: Results) -> str:
    """The command that measures the same cases again."""
    threads = " ".join(str(n) for n in sorted({m.threads for m in results.measurements}, reverse=True))
    groups = sorted({m.case.group for m in results.measurements})
    suite = groups[0] if len(groups) == 1 else results.details.get("suite", "full")
    measured = "--case NAME" if suite == "cases" else f"--suite {suite}"
    return (
        "pip install '.[benchmarks]'\npython benchmarks/run.py --install   # the rivals' environments\n"
        f"python benchmarks/run.py {measured} --threads {threads} --json results.json\n"
        "python benchmarks/report.py results.json --out report"
    )


def write(results: Results, folder: Path) -> Path:
    """Write the page and its pictures; return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for figure in figures_of(results):
        svgs = [svg_of(panel, f"{figure.name}-{number}") for number, panel in enumerate(figure.panels)]
        sections.append((figure.name, figure.title, figure.text, svgs))
        save_png(figure, folder / f"{figure.name}.png")
    page = folder / "index.html"
    page.write_text(page_of(results, sections, command_of(results)), encoding="utf-8")
    return page


def main(given: Sequence[str] | None = None) -> int:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS.json")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write to (default: report)")
    options = parser.parse_args(given)
    try:
        page = write(merge([read(path) for path in options.results]), options.out)
    except ResultsError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    print(f"{page} and {len(list(options.out.glob('*.png')))} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
