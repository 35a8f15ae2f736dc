"""What Slack shows, within Slack's limits, and without calling people who were not meant."""

from __future__ import annotations

import pytest

from handover.people.blocks import MAX_FIELDS, MAX_HEADER, MAX_TEXT, blocks, late, mrkdwn


def test_header_text_fields_and_links_in_this_order():
    found = blocks("Title", "text", {"Version": "v1.1.0"}, {"Run": "http://a/b"})
    assert [block["type"] for block in found] == ["header", "section", "section", "context"]
    assert found[2]["fields"][0]["text"] == "*Version*\nv1.1.0"
    assert found[3]["elements"][0]["text"] == "<http://a/b|Run>"


def test_what_is_empty_is_left_out():
    assert blocks("", "text", {"Version": ""}, {"Run": ""}) == (
        {"type": "section", "text": {"type": "mrkdwn", "text": "text"}},
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@here ROLLBACK", "<!here> ROLLBACK"),
        ("Reason: @here", "Reason: @here"),
        ("<!channel> a & b", "&lt;!channel&gt; a &amp; b"),
        ("@here <script>", "<!here> &lt;script&gt;"),
    ],
)
def test_only_our_own_here_calls_people(text, shown):
    assert mrkdwn(text) == shown


def test_nothing_is_longer_than_slack_takes():
    found = blocks("t" * 500, "x" * 9000, {f"f{n}": "v" * 5000 for n in range(20)}, {})
    assert len(found[0]["text"]["text"]) == MAX_HEADER
    assert len(found[1]["text"]["text"]) == MAX_TEXT
    assert len(found[2]["fields"]) == MAX_FIELDS


def test_a_field_is_shorter_than_a_text():
    (cell,) = blocks("", "x", {"f": "v" * 5000}, {})[1]["fields"]
    assert len(cell["text"]) == 2000


def test_a_late_message_says_when_it_was_written():
    assert late(43_200.0)["elements"][0]["text"] == "delivered late: written at 1970-01-01 12:00 UTC"
