"""The text format: a page says what Prometheus' own library reads in it, and what is not wanted costs nothing."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from handover.telemetry.exposition import CHUNK, Lines, Malformed, Page, is_exposition, pieces
from tests.support.fuzz import fuzz

WANTED = ("http_requests_total", "x_seconds_bucket", "up")
OTHERS = ("http_requests", "http_requests_total_created", "x_seconds", "upper", "y_seconds_bucket")


def read(text: str, wanted=WANTED) -> Page:
    lines = Lines(wanted)
    page = lines.page()
    for piece in pieces(text):
        lines.read(piece, page)
    return page


def sums(page: Page) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(name, frozenset(labels.items())): v for name, found in page.samples.items() for labels, v in found.items()}


# --- the same as Prometheus' own parser


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


label_names = st.sampled_from(["code", "path", "le", "a", "handler"])
label_values = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
numbers = st.one_of(st.floats(0, 1e15), st.integers(0, 10**12)).map(repr)


@st.composite
def lines(draw) -> str:
    name = draw(st.sampled_from(WANTED + OTHERS))
    labels = draw(st.dictionaries(label_names, label_values, max_size=4))
    inside = ",".join(f'{label}="{escaped(value)}"' for label, value in labels.items())
    braces = (
        "{" + inside + draw(st.sampled_from(["", ","] if labels else [""])) + "}"
        if labels or draw(st.booleans())
        else ""
    )
    gap = draw(st.sampled_from([" ", "  ", "\t"]))
    stamp = draw(st.sampled_from(["", " 1700000000000", " 0"])) if gap != "\t" else ""
    return f"{name}{braces}{gap}{draw(numbers)}{stamp}"


comments = st.sampled_from(
    ["# TYPE http_requests_total counter", '# HELP up \\n { } "', "# some words", "#", "", "   "]
)


@fuzz("metrics")
@given(st.lists(st.one_of(lines(), comments), max_size=30))
def test_a_page_has_the_sums_of_the_official_parser(found):
    text = "\n".join(found) + "\n"
    theirs = Counter[tuple[str, frozenset[tuple[str, str]]]]()
    times = Counter[tuple[str, frozenset[tuple[str, str]]]]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset((k, v) for k, v in sample.labels.items() if v)
            if sample.name in WANTED:
                theirs[key] = sample.value
                times[key] += 1
    page = read(text)
    assert sums(page) == dict(theirs)
    assert page.twice == {name for (name, _), number in times.items() if number > 1}


@pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
def test_what_the_client_library_writes_is_read(generate):
    registry = CollectorRegistry()
    requests = PrometheusCounter("http_requests_total", "", ["code", "path"], registry=registry)
    requests.labels("200", 'a"b\\c\nd').inc(
        3, exemplar={"trace_id": "x} 9"} if generate is generate_openmetrics else None
    )
    seconds = Histogram("x_seconds", "", buckets=(0.1, 1), registry=registry)
    seconds.observe(0.5, exemplar={"trace_id": "abc"} if generate is generate_openmetrics else None)
    page = read(generate(registry).decode())
    assert sums(page) == {
        ("http_requests_total", frozenset({("code", "200"), ("path", 'a"b\\c\nd')})): 3,
        ("x_seconds_bucket", frozenset({("le", "0.1")})): 0,
        ("x_seconds_bucket", frozenset({("le", "1.0")})): 1,
        ("x_seconds_bucket", frozenset({("le", "+Inf")})): 1,
    }
    assert (page.type_of("http_requests_total"), page.type_of("x_seconds")) == ("counter", "histogram")
    assert page.type_of("up") is None


@fuzz("metrics")
@given(st.text(max_size=300))
def test_any_text_is_a_page_or_malformed(text):
    with contextlib.suppress(Malformed):
        read(text)


# --- forms of a line


@pytest.mark.parametrize("line", [
    'up{a="b"} 2', 'up{a="b",} 2', 'up { a = "b" } 2', '  up{a="b"}\t2', 'up{a="b"} 2 1700000000000', 'up{a="b"} 2\r',
    'up{a="b"} 2 # {trace_id="} 9"} 0.5 1700000000.1', 'up{a="b",c=""} 2', 'up{a="b"} 2.0e0', 'up{a="b"}2',
])  # fmt: skip
def test_forms_of_one_sample(line):
    assert sums(read(f"# a comment\n{line}\n# EOF\n")) == {("up", frozenset({("a", "b")})): 2}
    assert sums(read(line)) == {("up", frozenset({("a", "b")})): 2}


@pytest.mark.parametrize(("line", "labels"), [
    (r'up{a="x\"y"} 1', 'x"y'), (r'up{a="x\\"} 1', "x\\"), (r'up{a="x\ny"} 1', "x\ny"), ('up{a="}"} 1', "}"),
    ('up{a="# {"} 1', "# {"), ('up{a=" # {b=\\"c\\"} 5"} 1', ' # {b="c"} 5'), ('up{a="é\u2028"} 1', "é\u2028"),
    (r'up{a="x\\n"} 1', "x\\n"),
])  # fmt: skip
def test_what_stands_between_quotes(line, labels):
    for _ in range(2):
        assert sums(read(f"{line}\n")) == {("up", frozenset({("a", labels)})): 1}


@pytest.mark.parametrize(("line", "value"), [
    ("up NaN", float("nan")), ("up +Inf", float("inf")), ("up -Inf", float("-inf")), ("up 1e3", 1000), ("up -1", -1),
    ("up 1 # {a=\"b\"} 7", 1),
])  # fmt: skip
def test_values(line, value):
    assert list(read(line).samples["up"].values()) == pytest.approx([value], nan_ok=True)


@pytest.mark.parametrize("line", [
    "up", "up ", "up{", 'up{a="b"', 'up{a="b}', "up{a=b} 1", 'up{a="b" c="d"} 1', 'up{a="b",a="c"} 1', "up one",
    "up 1 2 3", "up 1 x", 'up{a="b"}', "up 1_000", 'up{="b"} 1', 'up{a="b",,} 1', "up 0x", "up{} # 1",
])  # fmt: skip
def test_a_wanted_line_that_is_broken_is_named(line):
    with pytest.raises(Malformed, match="up"):
        read(f"http_requests_total 5\n{line}\n")


@pytest.mark.parametrize("line", ["upper", "other{", "other 1 2 3", "x_seconds{a=} 1", "\x00\x01"])
def test_a_broken_line_that_nobody_wants_is_nobodys_concern(line):
    assert sums(read(f"{line}\nup 1\n")) == {("up", frozenset()): 1}


def test_the_same_series_twice_is_told_whatever_the_order_of_its_labels():
    page = read('up{a="1",b="2"} 1\nup{b="2",a="1"} 5\nhttp_requests_total 1\n')
    assert page.twice == {"up"}


@pytest.mark.parametrize(("text", "yes"), [
    ("", False), ("<html><body>502 Bad Gateway</body></html>", False), ('{"status": "ok"}', False), ("a 1\n", True),
    ("# HELP a b\na{b=\"c\"} NaN\n", True), ("not found\n", False),
])  # fmt: skip
def test_what_is_a_page_of_metrics_at_all(text, yes):
    assert is_exposition(text) is yes


# --- what a page costs


def large(name: str, series: int) -> str:
    return "".join(f'{name}{{route="/orders/{i}",method="GET",le="0.5"}} {i}\n' for i in range(series))


def test_of_a_megabyte_only_the_wanted_lines_are_read():
    """Not by the clock: by how many lines were more than passed over."""
    text = large("app_orders_latency_seconds_bucket", 15_000) + "up 1\n" + large("http_requests", 200)
    assert len(text) > 1_000_000
    page = read(text)
    assert (page.parsed, sums(page)) == (1, {("up", frozenset()): 1})


def test_labels_are_learnt_once(monkeypatch):
    lines, text = Lines(WANTED), large("x_seconds_bucket", 50)
    learnt = []
    original = Lines._labels
    monkeypatch.setattr(Lines, "_labels", lambda self, *rest: learnt.append(rest) or original(self, *rest))
    pages = [lines.page() for _ in range(3)]
    for page in pages:
        lines.read("\n" + text, page)
    assert (len(learnt), [page.parsed for page in pages]) == (50, [50] * 3)
    assert pages[0].samples == pages[2].samples


def test_what_is_learnt_is_bounded(monkeypatch):
    monkeypatch.setattr("handover.telemetry.exposition.MAX_KNOWN", 100)
    lines = Lines(WANTED)
    for number in range(20):
        lines.read("\n" + large("x_seconds_bucket", 30).replace("/orders", f"/{number}"), lines.page())
    assert len(lines._known) <= 130


def test_pieces_cut_between_lines():
    text = large("x_seconds_bucket", 5000) + "up 1"
    found = list(pieces(text))
    assert len(found) > 2
    assert "".join(found) == "\n" + text
    assert all(len(piece) < CHUNK + 200 for piece in found)
    assert list(pieces("")) == []
