"""Anybody's words stay words in Slack, Markdown and Jira: nothing in them is markup there, and all of them is shown."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handover.models import markup

HOSTILE = st.text(st.sampled_from("<>&|`*_[](){}#!\\~^+-=:/.@wWhb16q \n\r\u2028aé"), max_size=40) | st.text(max_size=40)
ADDRESSES = st.sampled_from(["https://a.example/x-y_z?q=1", "http://evil.example/|x>", "www.evil.example"])
WORDS = st.lists(HOSTILE | ADDRESSES | st.sampled_from(["<!channel>", "{code}", "[~ada]", "h1. x", "bq. x"])).map(
    "".join
)


@given(WORDS)
def test_slack_shows_the_words_and_has_no_mention_or_link_of_theirs(words):
    found = markup.slack(words)
    assert not set("<>") & set(found)
    assert found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == words


@given(WORDS)
@example("_WWW.evil.example")
@example(":/\\/")
def test_markdown_shows_the_words_on_one_line_and_nothing_in_them_is_markup(words):
    found = markup.markdown(words)
    assert len(found.splitlines()) <= 1
    bare = re.sub(r"\\.", " ", found)
    assert not set(bare) & set("\\`*_{}[]<>|#~!&")
    assert "://" not in bare
    assert not re.search(r"\bwww\.", bare, re.IGNORECASE)
    shown = re.sub(r"\\(.)", r"\1", found)
    assert re.sub(r"\s+", " ", shown) == re.sub(r"\s+", " ", words)


@given(WORDS)
@example("1-_")
@example("_-a")
def test_jira_shows_the_words_and_nothing_in_them_is_markup_but_a_bare_address(words):
    found = markup.jira(words)
    bare = re.sub(r"\\.|&#\d+;|https?://(?:(?!&#)[\w./:%?=&~+-])+|(?<=\w)-(?=\w)", "§", found)
    assert not set(bare) & set("\\{}[]()*_^~!|?+#-")
    assert not re.search(r"^\s*(h[1-6]|bq)\.", found, re.MULTILINE)
    shown = re.sub(r"\\([{}\[\]()*_^~!|?+#-])", r"\1", found)
    assert html.unescape(shown) == html.unescape(words)


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "evil", "", "http://", "https://[", "mailto:a@b"],
)
def test_what_is_no_address_of_the_web_is_no_link(address):
    assert markup.slack_link(address, "a <b>") == "a &lt;b&gt;"


@given(tail=HOSTILE, name=HOSTILE)
def test_a_link_in_slack_is_one_link_to_where_it_says(tail, name):
    found = markup.slack_link(f"https://airflow.example.com/{tail}", name)
    if found.startswith("<"):
        assert re.fullmatch(r"<https://airflow\.example\.com/[^<>|\s]*\|[^<>|]*>", found.replace("\n", " "), re.DOTALL)


@pytest.mark.parametrize("piece", ["h", " ", "https://", "\\", "www", ":", "-", "\n"])
def test_a_text_that_is_made_to_be_slow_is_not(piece):
    for escape in (markup.slack, markup.markdown, markup.jira, markup.web_address):
        escape(piece * (300_000 // len(piece)))
