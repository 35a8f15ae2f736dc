"""What services say when they refuse: kept in their own words, cut, and without our secrets."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters.refusals import MAX_WORDS, call, named, spoken
from handover.ports.channel import ServiceRefused
from tests.support.fuzz import fuzz
from tests.support.steps import connect_to
from tests.support.web import Answer, serving


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"errorMessages": ["No project PMS."], "errors": {}}, "No project PMS."),  # Jira
        ({"errors": {"issuetype": "Specify a valid issue type"}}, "issuetype: Specify a valid issue type"),
        ({"error": ["Status is not one of this kind"]}, "Status is not one of this kind"),  # Statuspage
        ({"status": "error", "errorType": "bad_data", "error": "parse error at char 3"}, "parse error at char 3"),
        ({"errors": [{"message": "NRQL Syntax Error"}, {"message": "at 1"}]}, "NRQL Syntax Error; at 1"),
        ({"detail": "Invalid token"}, "Invalid token"),  # Sentry, Airflow
        ({"title": "Bad", "status": 400, "detail": "no such field"}, "no such field; Bad"),  # RFC 9457
        ({"message": "Validation Failed", "errors": [{"message": "no ref"}]}, "no ref; Validation Failed"),  # GitHub
        ({"error": {"message": "Invalid Input", "code": 2001, "errors": ["From is needed"]}},
         "From is needed; Invalid Input"),  # PagerDuty
        ({"errors": [{"code": "DENIED", "message": "requested access is denied"}]}, "requested access is denied"),
        ({"error": "invalid_grant", "error_description": "expired"}, "invalid_grant; expired"),
        ({"ok": False, "error": True, "message": ""}, ""),
        ([1, 2], ""), (7, ""), ({}, ""),
    ],
)  # fmt: skip
def test_every_service_has_its_own_way_to_say_what_was_wrong(said, words):
    assert spoken(json.dumps(said).encode()) == words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"default backend - 404\n", "default backend - 404"), (b"<html><h1>Bad</h1>", ""), (b"", ""), (b"{broken", ""),
        (b"\xff\xfe no", "\ufffd\ufffd no"),
    ],
)  # fmt: skip
def test_a_text_is_told_and_a_page_is_not(said, words):
    assert spoken(said) == words


@fuzz("channels")
@given(
    st.text("abcdefgh0123456789/+=!ü", min_size=8, max_size=30), st.text("abcxyz", max_size=8), st.text(max_size=30),
    st.integers(0, 600),
)  # fmt: skip
def test_no_secret_is_ever_told_in_any_form_in_which_we_send_it(password, login, around, filler):
    forms = [password, quote(password, safe=""), base64.b64encode(f"{login}:{password}".encode()).decode()]
    said = " ".join(["x" * filler, around, *forms])
    for content in (json.dumps({"message": said}), json.dumps({"errors": {"field": said}})):
        words = spoken(content.encode(), login, password, {"token": "in-the-extra"})
        assert len(words) <= MAX_WORDS
        assert not any(form in words for form in forms)
    assert spoken(b'{"error": "in-the-extra is wrong"}', extra={"token": "in-the-extra"}) == "*** is wrong"


def test_a_refusal_is_told_without_the_question(monkeypatch):
    with serving(lambda _: Answer(403, {"message": "secret may not"})) as web:
        connect_to(monkeypatch, "pms_x", host=web.url, login="me", password="secret")
        with pytest.raises(ServiceRefused, match=r"^GET /a: 403 \*\*\* may not$") as refused:
            call("pms_x", "GET", "/a?token=secret")
    assert refused.value.status == 403


SECRETS = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Z", "Cc"]), min_size=6, max_size=40)


@fuzz("channels")
@given(secret=SECRETS.filter(lambda text: text == text.strip()), deep=st.sampled_from(["a", "b", "c"]))
def test_a_secret_is_hidden_however_deep_it_lies_and_in_whatever_form_it_comes_back(secret, deep):
    extra = {"a": {"tokens": {"a": secret}}, "b": {"keys": [{"k": secret}]}, "c": {"plain": secret}}[deep]
    for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
        for said in (json.dumps({"error": f"you sent [{form}]"}).encode(), f"you sent [{form}]".encode()):
            found = spoken(said, "", "", extra)
            assert found in ("", "you sent [***]")


@pytest.mark.parametrize("said", ["i", "PMS-1", "kctbh9vrtdwd", "a.b_c-9"])
def test_a_name_that_a_service_has_given_may_be_a_part_of_a_path(said):
    assert named(said, "an incident") == said


@pytest.mark.parametrize("said", ["", "#0", "..", "../users", "a/b", "a?b", "a b", "ä", "x" * 101, 7, None, ["i"], {}])
def test_what_is_no_name_chooses_nothing_that_is_changed(said):
    with pytest.raises(ServiceRefused, match="an incident with a name that is none"):
        named(said, "an incident")
