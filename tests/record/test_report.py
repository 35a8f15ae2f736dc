"""The report: what it says, that nothing in it can break its form, and how a person sees it in a browser."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from pathlib import Path

import pytest

from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.record import IncidentKind, SentMessage
from handover.record import checklist, plot, render, report
from handover.record.checklist import Mark
from tests.record import made

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</td><script>alert(1)</script> | [x](http://evil) `a` \n# heading"


def built(plan, *entries):
    return report.build(plan, checklist.load(plan.record.checklist), made.record(*entries))


def story():
    """A deployment with a spike of errors that was rolled back."""
    return [
        made.deployment(), made.check("phase_1_pre_deployment.database_backup.backup", at=20),
        made.decision("phase_1_pre_deployment.decide", at=25),
        made.decision("phase_1_pre_deployment.team_briefing", who="lead", at=24),
        made.check("phase_2_application_deployment.deploy_new_version.switch_traffic", at=60),
        made.check("phase_2_application_deployment.deploy_new_version.watch", Verdict.FAIL, at=165, reason="error_rate",
                   error_rate=0.02),
        made.check("move_traffic_back", at=170, run="rollback__x"), *made.samples(),
        made.check("phase_2_application_deployment.verify.response_times", at=100, p99_seconds=0.3),
        SentMessage(at=made.START + 171, channel="slack #pms-incidents", text="@here ROLLBACK", problem="ReadTimeout")
        .of(made.RUN, "rollback__x", "alert_team"),
        made.incident(IncidentKind.OPENED, 165), made.incident(IncidentKind.RESOLVED, 260),
        made.outcome(Status.ROLLED_BACK, at=262, run="rollback__x"),
    ]  # fmt: skip


def test_it_says_how_it_ended_and_what_happened_in_order(plan):
    found = built(plan, *story())
    assert (found.outcome, found.succeeded, found.seconds) == ("was rolled back", False, 262)
    assert [line.at for line in found.log] == sorted(line.at for line in found.log)
    assert {line.kind for line in found.log} == {
        "check pass", "check fail", "decision", "message", "incident opened", "incident resolved", "outcome",
    }  # fmt: skip
    assert found.undelivered == 1
    assert [m.name for m in found.moments] == ["switch", "traffic back", "incident", "end"]


def test_a_message_that_got_through_at_a_later_try_counts_as_delivered(plan):
    late = SentMessage(at=made.START + 200, channel="slack #pms-incidents", text="@here ROLLBACK")
    assert built(plan, *story(), late.of(made.RUN, "redelivery__x", "redeliver")).undelivered == 0


def test_a_deployment_that_has_not_ended_has_a_report_too(plan):
    found = built(plan, made.deployment(), made.check("phase_1_pre_deployment.x.backup", at=20))
    assert (found.outcome, found.ended, found.ended_at) == ("has not ended", False, made.START + 20)
    assert all(section.count(Mark.PASSED) == 0 for section in found.sections)
    assert "nothing was measured" in render.html(found)
    assert "Last entry" in render.markdown(found)


def test_phases_of_deployment_and_rollback_are_told_apart(plan):
    found = built(plan, made.check("p1.a", at=10), made.check("p1.b", Verdict.FAIL, at=30),
                  made.check("p1.b", Verdict.UNKNOWN, at=35, tries=2),
                  made.check("verify.a", at=90, run="rollback__x"))  # fmt: skip
    assert [(p.name, p.seconds, p.passed, p.checks) for p in found.phases] == [("p1", 26, 1, 2), ("verify", 1, 1, 1)]


def test_markdown_tables_keep_their_form_whatever_is_in_them(plan):
    hostile = made.check("p1.backup", Verdict.FAIL, reason=HOSTILE)
    text = render.markdown(built(plan, *story(), hostile))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 60
    tables = re.split(r"\n(?!\|)", text)
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines() if line.startswith("|")}
        assert len(cells) <= 1, table
    assert "<script>" not in text
    assert "\n# heading" not in text


def test_no_address_in_a_report_is_a_link(plan):
    links = "https://evil.example/ WWW.evil.example ![x](http://evil.example/x.png)"
    text = render.markdown(built(plan, *story(), made.check("p1.backup", Verdict.FAIL, reason=links)))
    assert r"https\://evil.example/ WWW\.evil.example \!\[x\](http\://evil.example/x.png)" in text
    assert "://evil" not in text.replace(r"\://", "")


def test_html_shows_what_is_hostile_as_text(plan):
    text = render.html(built(plan, *story(), made.check("p1.backup", Verdict.FAIL, reason=HOSTILE)))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "default-src 'none'" in text
    assert set(re.findall(r"(?:src|href)=.{11}", text)) == {'src="data:image'}  # self-contained


def drawn(*given) -> ET.Element:
    return ET.fromstring(plot.svg(*given))


def parts(picture: ET.Element) -> Counter[str]:
    """What is in it, by the names that we give."""
    return Counter(str(element.get("id")).partition("-")[0] for element in picture.iter())


def heights(picture: ET.Element) -> list[float]:
    """Of the points of the first line, from the top."""
    (path,) = picture.findall(f".//{SVG}g[@id='series-0']/{SVG}path")
    return [float(place.split()[1]) for place in re.split("[ML]", path.get("d"))[1:]]


def test_every_plot_has_its_lines_its_limit_and_its_moments(plan):
    found = built(plan, *story())
    for one, series, dots in zip(found.plots, (2, 4, 1), (0, 1, 0), strict=True):
        picture = drawn(one, found.moments, found.started_at, found.ended_at)
        counted = parts(picture)
        assert (counted["series"], counted["limit"], counted["moment"]) == (series, 1, 4)
        assert len(picture.findall(f".//{SVG}g[@id='series-3']//{SVG}use")) == dots
        assert f"limit of the plan: {one.limit:g} {one.unit}" in "".join(picture.itertext())


def test_a_picture_holds_what_is_hostile_as_text_and_asks_nobody_for_anything():
    hostile = "<script>alert(1)</script> $x^2$ & \\frac"
    one = report.Plot(hostile, hostile, (report.Series(hostile, ((0.0, 1.0), (1.0, 2.0))),), limit=1.0)
    picture = drawn(one, [report.MarkedMoment(1.0, hostile)], 0, 5)
    assert [text for text in picture.itertext() if text.strip() == hostile]
    assert not picture.findall(f".//{SVG}script")
    addresses = [value for element in picture.iter() for name, value in element.items() if name.endswith("href")]
    assert all(address.startswith("#") for address in addresses)


def test_the_same_record_is_the_same_picture_every_time(plan):
    found = built(plan, *story())
    given = (found.plots[0], found.moments, found.started_at, found.ended_at)
    assert plot.svg(*given) == plot.svg(*given)


def test_a_line_is_cut_where_nothing_was_measured():
    points = [(float(n), 1.0) for n in (0, 1, 2, 30, 31)]
    assert [str(value) for _, value in plot.cut(points)] == ["1.0"] * 3 + ["nan"] + ["1.0"] * 2
    assert plot.cut([]) == []


def test_a_peak_survives_when_there_are_more_points_than_pixels():
    points = [(n / 100, 1.0 if n == 43_210 else 0.0) for n in range(720_000)]
    kept = plot.thinned(points, 0, 7200, 784)
    assert len(kept) == 784
    assert (432.1, 1.0) in kept


def test_the_axis_reaches_beyond_the_highest_value_and_down_to_nothing():
    one = report.Plot("x", "s", (report.Series("a", ((0.0, 3.7), (5.0, 0.0))),), limit=2.0)
    picture = drawn(one, [], 0, 5)
    top, bottom = heights(picture)
    (frame,) = picture.findall(f".//{SVG}g[@id='patch_2']/{SVG}path")
    edges = [float(place.split()[1]) for place in re.split("[MLz]", frame.get("d")) if place.strip()]
    assert min(edges) < top < bottom == max(edges)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (chromium, chromium-browser, google-chrome)")
class TestAsAPersonSeesIt:
    @pytest.fixture(scope="class")
    def page(self, tmp_path_factory):
        from handover.plan.load import load_plan
        from handover.plan.model import INCLUDE

        path = tmp_path_factory.mktemp("page") / "report.html"
        path.write_text(render.html(built(load_plan(INCLUDE / "plans" / "pms.yaml"), *story())))
        return path

    def test_the_browser_lays_it_out_with_its_plots(self, page):
        dom = chromium(page, "--dump-dom").stdout
        assert dom.count('src="data:image/svg+xml') == 3
        assert "was rolled back" in dom

    def test_a_screenshot_shows_the_plots_in_their_colours(self, page):
        picture = page.with_suffix(".png")
        chromium(page, f"--screenshot={picture}", "--window-size=960,1500")
        width, height, pixels = png(picture)
        assert (width, height) == (960, 1500)
        colours = Counter(pixels)
        assert colours.most_common(1)[0][0] == (255, 255, 255)
        assert len(colours) > 50  # letters with soft edges: not blank
        for colour in plot.COLOURS[:3]:
            assert colours[rgb(colour)] > 100, colour
        assert colours[rgb(plot.COLOURS[3])] > 10  # a dot, and its legend
        assert colours[rgb(plot.LIMIT_COLOUR)] > 300

    def test_nothing_is_asked_of_the_network_and_nothing_is_an_error(self, page):
        said = chromium(page, "--dump-dom", "--enable-logging=stderr", "--v=0").stderr
        assert not re.findall(r"CONSOLE.*", said)


def chromium(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    profile = page.parent / "profile"
    argv = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
            "--disable-background-networking", f"--user-data-dir={profile}", *options, page.as_uri()]  # fmt: skip
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def png(path: Path) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Width, height and pixels of a PNG of 8 bits a channel."""
    data, at, packed = path.read_bytes(), 8, b""
    while at < len(data):
        (size,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, form = struct.unpack(">IIBB", body[:10])
            assert depth == 8, depth
            channels = {2: 3, 6: 4}[form]
        packed += body if kind == b"IDAT" else b""
        at += size + 12
    raw, stride = zlib.decompress(packed), width * channels
    rows, before = [], bytearray(stride)
    for y in range(height):
        start = y * (stride + 1)
        before = unfiltered(raw[start], raw[start + 1 : start + 1 + stride], before, channels)
        rows.append(before)
    pixels = [tuple(row[x : x + 3]) for row in rows for x in range(0, stride, channels)]
    return width, height, pixels


def unfiltered(kind: int, line: bytes, above: bytearray, step: int) -> bytearray:
    found = bytearray(line)
    for i in range(len(found)):
        left = found[i - step] if i >= step else 0
        up, corner = above[i], above[i - step] if i >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        elif kind == 4:
            base = left + up - corner
            guess = min((left, up, corner), key=lambda v: abs(base - v))
        else:
            guess = 0
        found[i] = (found[i] + guess) & 255
    return found
