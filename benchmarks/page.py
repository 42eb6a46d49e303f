"""The report as one self-contained HTML page, without network or other files, and readable without scripts."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from palette import theme_css
from result_tables import milliseconds
from results import MODES, Measurement, Results, threads_in_words

PAGE = ("#ffffff", "#14181c")  # the background in the two themes
LOSSES_SHOWN = 12  # a longer list of cases below 1 is collapsed; the charts show all of them
WORDS = {
    "T, B, I, H, L": "time steps, sequences of a batch, inputs, hidden units, layers (one if L is not given; I = H "
    "if I is not given)",
    "forward": "inference, from inputs to outputs; weights are prepared outside the timed call",
    "training": "forward and backward, with the gradients of inputs and parameters; weights count as new in every call",
    "ratio": "the median time of the fastest rival divided by ours: above 1, fastrnn is faster",
    "share of the limit": "the least possible time, by the machine’s measured peaks, divided by the measured time",
    "ragged, reset every n": "sequences of unequal length; states that are zeroed every n steps",
    "truncation n": "the gradient reaches back n steps",
    "FMA peak": "fused multiply-adds from registers, the processor’s maximum in float32",
    "sgemm": "a product of 1024 x 1024 matrices in float32",
    "region, barrier": "starting threads for a piece of work; waiting until all threads reach the same point",
}
METHOD = (
    "Every contestant is a separate process, gets the same weights and inputs, and must agree with fastrnn’s outputs "
    "and gradients before it is timed. Contestants take turns over several rounds, with a rest between turns; a time "
    "is the median of the rounds’ medians. Two contestants within a tenth of each other in one run count as equal."
)
SECTIONS = [("ratios", "Ratio"), ("limits", "Limits"), ("batch", "Batch size"), ("steps", "Time steps")]
SECTIONS += [("latency", "Latency"), ("rivals", "Each rival"), ("table", "All cases"), ("method", "Method, machine")]


def page_of(results: Results, sections: Sequence[tuple[str, str, str, list[str]]], command: str) -> str:
    """The page; `sections` are (name, title, text, SVG elements), `command` repeats the measurement."""
    folder = Path(__file__).parent
    css = f":root{{--page:{PAGE[0]};{theme_css(0)}}}\n"
    css += f"@media screen and (prefers-color-scheme: dark){{:root{{--page:{PAGE[1]};{theme_css(1)}}}}}\n"
    there = {name for name, *_ in sections} | {"table", "method"}
    links = "".join(f'<li><a href="#{name}">{text}</a></li>' for name, text in SECTIONS if name in there)
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>fastrnn, measured on {escape(results.machine)}</title>",
        f"<style>\n{css}{(folder / 'page.css').read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<header>",
        "<h1>fastrnn beside other libraries</h1>",
        f'<p class="soft">{escape(_where(results))}</p>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>',
        "<main>",
        _summary(results.measurements),
        *(_section(*section) for section in sections),
        _table_section(results),
        _method(results, command),
        f"</main>\n<script>\n{(folder / 'page.js').read_text(encoding='utf-8')}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _where(results: Results) -> str:
    backend = f", {results.backend} kernels" if results.backend else ""
    hidden = ", ".join(name.upper().replace("AVX512", "AVX-512") for name in results.details.get("hidden") or [])
    hidden = f" ({hidden} hidden from all libraries)" if hidden else ""
    return (
        f"Processor: {results.machine}{backend}{hidden}. Measured {results.details.get('date', 'on a day not noted')}."
    )


def _summary(measurements: Sequence[Measurement]) -> str:
    tiles = []
    for threads in sorted({m.threads for m in measurements}):
        for mode in MODES:
            ratios = [m.ratio for m in measurements if (m.threads, m.mode) == (threads, mode) and m.ratio]
            if ratios:
                below = sum(ratio < 1 for ratio in ratios)
                tiles.append(
                    f"<li><strong>{statistics.geometric_mean(ratios):.2f}</strong> times as fast as the fastest rival, "
                    f"{mode}, {threads_in_words(threads)}<br><span class='soft'>geometric mean of "
                    f"{len(ratios)} cases; {min(ratios):.2f} to {max(ratios):.2f}; {below} below 1</span></li>"
                )
    below = sorted((m for m in measurements if m.ratio and m.ratio < 1), key=lambda m: m.ratio or 0)
    each = "".join(
        f"<li>{escape(m.label)}: {m.ratio:.2f}, {escape(str(m.fastest_rival))} is faster</li>" for m in below
    )
    is_open = " open" if len(below) <= LOSSES_SHOWN else ""
    losses = f"<details{is_open}><summary>{len(below)} cases where a rival is faster</summary><ol>{each}</ol></details>"
    return f'<ul class="tiles">{"".join(tiles)}</ul>\n{losses if below else ""}'


def _section(name: str, title: str, text: str, pictures: list[str]) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">\n<h2 id="{name}-title">{title}</h2>\n<p>{text}</p>\n'
        f'<div class="panels">\n{"".join(pictures)}\n</div>\n</section>'
    )


def _choice(name: str, title: str, values: Iterable[object]) -> str:
    options = "".join(f"<option>{escape(str(value))}</option>" for value in values)
    return f'<label>{title}<select name="{name}"><option value="">all</option>{options}</select></label>'


def _table_section(results: Results) -> str:
    measurements, names = results.measurements, results.contestants
    columns = ["case", "group", "mode", "threads", "ratio", "fastest rival", "share of the limit", "bound by"]
    text = {"case", "group", "mode", "fastest rival", "bound by"}
    heads = [f'<th scope="col"{" class=text" if c in text else ""}>{c}</th>' for c in columns]
    heads += [f'<th scope="col">{escape(name)}, ms</th>' for name in names]
    choices = [
        _choice("group", "Group", dict.fromkeys(m.case.group for m in measurements)),
        _choice("mode", "Mode", dict.fromkeys(m.mode for m in measurements)),
        _choice("threads", "Threads", sorted({m.threads for m in measurements})),
    ]
    return (
        '<section id="table" aria-labelledby="table-title">\n<h2 id="table-title">All cases</h2>\n'
        "<p>Milliseconds are median times of a call; in brackets, that time over ours. An empty cell: the contestant "
        'cannot do the case, or was not measured.</p>\n<form id="controls" hidden>'
        '<label>Filter<input type="search" name="text" placeholder="e.g. gru H=64"></label>'
        f'{"".join(choices)}<label><input type="checkbox" name="below"> ratio below 1 only</label>'
        '<output id="count"></output></form>\n<div class="scroll" role="region" aria-label="Table of all cases" '
        f'tabindex="0"><table id="cases"><thead><tr>{"".join(heads)}</tr></thead>\n<tbody>\n'
        f"{''.join(_row(m, names) for m in measurements)}</tbody></table></div>\n</section>"
    )


def _row(m: Measurement, names: list[str]) -> str:
    below, limit = m.ratio is not None and m.ratio < 1, m.of_limit("fastrnn")
    ratio = f'<td data-value="{m.ratio}"{" class=below" if below else ""}>{m.ratio:.2f}</td>' if m.ratio else _EMPTY
    share = f'<td data-value="{limit[0]}">{limit[0]:.0%}</td>' if limit else _EMPTY
    cells = [
        f'<th scope="row" title="{escape(m.case.why)}">{escape(m.case.name)}</th>',
        *(f'<td class="text">{value}</td>' for value in (escape(m.case.group), m.mode)),
        f"<td>{m.threads}</td>{ratio}",
        f'<td class="text">{escape(m.fastest_rival or "")}</td>{share}',
        f'<td class="text">{limit[1] if limit else ""}</td>',
        *(_time(m, name) for name in names),
    ]
    data = f'data-group="{escape(m.case.group)}" data-mode="{m.mode}" data-threads="{m.threads}"'
    return f'<tr {data} data-below="{"yes" if below else "no"}">{"".join(cells)}</tr>\n'


_EMPTY = '<td data-value=""></td>'


def _time(m: Measurement, name: str) -> str:
    seconds = m.median(name)
    if seconds is None:
        why = escape(str(m.times.get(name, {}).get("unsupported", "not measured")))
        return f'<td data-value="" title="{why}"></td>'
    over = f" ({seconds / m.ours:.2f})" if m.ours and name != "fastrnn" else ""
    return f'<td data-value="{seconds}">{milliseconds(seconds)}{over}</td>'


def _list(pairs: Iterable[tuple[str, object]]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in pairs) + "</dl>"


def _method(results: Results, command: str) -> str:
    details = results.details
    machine = [(k, details[k]) for k in ("processor", "cores", "system", "python", "build", "date") if details.get(k)]
    for threads, values in details.get("limits", {}).items():
        machine += [
            (f"{name.replace(', us', ', µs')}, {threads_in_words(int(threads))}", f"{v:.4g}")
            for name, v in values.items()
        ]
    versions = details.get("versions", {}).items()
    return (
        '<section id="method" aria-labelledby="method-title">\n<h2 id="method-title">Method, machine, words</h2>\n'
        f"<p>{METHOD}</p>\n<h3>Measure it yourself</h3>\n<pre>{escape(command)}</pre>\n<h3>Words</h3>\n"
        f"{_list(WORDS.items())}\n<h3>Machine and its measured limits</h3>\n{_list(machine)}\n"
        f"<h3>Versions</h3>\n{_list(versions)}\n</section>"
    )
