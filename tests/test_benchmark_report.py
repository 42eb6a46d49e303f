"""The page and the pictures of the benchmark. Needs the extra `benchmarks`."""

import json
import re
from html.parser import HTMLParser

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("threadpoolctl")

import report
from benchmark_cases import content_of, result_of
from page import PAGE
from palette import STYLES, THEMES
from results import parse

RIVALS = {"torch": 2e-3, "jax": 0.7e-3, "<b>": 3e-3}
BATCH = [result_of(1e-3 * B, {"torch": 2e-3 * B}, group="batch", T=50, B=B) for B in (1, 8, 64)]
STEPS = [result_of(1e-4 * T, group="steps", T=T, B=8, mode="training") for T in (5, 50, 500)]
LATENCY = [result_of(1e-3, RIVALS, H=H, mode=mode) for H in (8, 16) for mode in ("forward", "training")]
LONELY = result_of(1e-3, {"fastrnn.torch": 2e-3}, group="odd", T=3, B=2, layers=3, bidirectional=True, why="a & b")
CONTENT = content_of(*BATCH, *STEPS, *LATENCY, LONELY, suite="full")
VOID = {"meta", "input", "br", "use"}


class Page(HTMLParser):
    """Records open elements, all attributes and all text; fails at an end tag that does not match."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.words, self.counts = [], [], [], {}

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("report")
    (found / "results.json").write_text(json.dumps(CONTENT))
    assert report.main([str(found / "results.json"), "--out", str(found)]) == 0
    return found


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    found = Page()
    found.feed(text)
    found.close()
    return found


def test_page_is_well_formed_and_its_ids_are_unique(page):
    assert page.open == []
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for _, name, value in page.attributes if name in ("href", "xlink:href")}
    targets |= {value for _, name, values in page.attributes if name == "aria-labelledby" for value in values.split()}
    assert targets <= set(ids)


def test_page_has_each_case_and_each_contestant(page):
    words = " ".join(page.words)
    for m in parse(CONTENT).measurements:
        assert m.case.name in words
    for name in ("torch", "jax", "fastrnn.torch", "<b>"):
        assert f"{name}, ms" in words
    assert page.counts["tr"] == 1 + len(CONTENT["results"])


def test_page_loads_nothing(text, page):
    assert not re.search(r"https?:|//\w|@import|\bsrc=", re.sub(r"^//.*", "", text, flags=re.M))
    links = [value for _, name, value in page.attributes if name in ("href", "xlink:href")]
    assert links
    assert all(value.startswith("#") for value in links)


def test_each_picture_says_what_it_shows_and_follows_the_theme(text, page):
    labels = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == page.counts["svg"] > 10
    assert all(len(label) > 40 for label in labels)
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    for picture in pictures:
        assert set(re.findall(r"#[0-9a-f]{6}\b", picture)) == set()
        assert set(re.findall(r"var\(--(\w+)\)", picture)) <= set(THEMES)


def test_slower_cases_are_named(page):
    words = " ".join(page.words)
    assert "4 cases where a rival is faster" in words
    assert "lstm T=1 B=1 H=8, training, 2 threads: 0.70, jax is faster" in words.replace("I=8 ", "")


def test_pictures_are_written_as_png(folder):
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {"ratios", "limits", "batch", "steps", "latency", "rivals"}
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_marks_stand_out_in_both_themes(theme):
    for name, colours in THEMES.items():
        least = 1 if name in ("line", "shade") else 4.5 if name in ("ink", "soft", "better", "worse") else 3
        assert contrast(colours[theme], PAGE[theme]) >= least, name
    assert contrast(THEMES["ink"][theme], THEMES["shade"][theme]) >= 7


def test_no_two_contestants_share_a_mark_and_no_two_roles_a_colour():
    assert len({mark for _, mark, _ in STYLES.values()}) == len(STYLES)
    assert len({light for light, _ in THEMES.values()}) == len(THEMES)


def test_results_without_rivals_limits_or_series_make_a_page(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content_of(LONELY, limits={}, versions={})))
    assert report.main([str(path), "--out", str(tmp_path / "out")]) == 0
    found = Page()
    found.feed((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert found.open == []
    assert not list((tmp_path / "out").glob("*.png"))
