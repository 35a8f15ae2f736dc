"""The search for secrets finds each that is planted, in every form, wherever it stands; and nothing else."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.planted import SHORTEST, Found, Place, search

SECRETS = {"key": 's3cr/t+"<é>&\\ wo:rd', "token": "0123456789abcdef"}
PLANTED = {
    "as it is": lambda secret: f"login with {secret}, please",
    "JSON": lambda secret: json.dumps({"password": secret}),
    "JSON, other letters kept": lambda secret: json.dumps({"password": secret}, ensure_ascii=False),
    "JSON in JSON": lambda secret: json.dumps({"value": json.dumps({"password": secret})}),
    "repr": lambda secret: repr({"password": secret}),
    "HTML": lambda secret: f"<td>{html.escape(secret)}</td>",
    "an address": lambda secret: f"postgresql://me:{quote(secret, safe='')}@host/db",
    "a form": lambda secret: urlencode({"password": secret}),
    "an address in a form": lambda secret: urlencode({"next": f"https://me:{quote(secret, safe='')}@host"}),
    "basic authentication": lambda secret: f"Basic {base64.b64encode(f'me:{secret}'.encode()).decode()}",
    "a Secret of the cluster": lambda secret: f"data: {base64.b64encode(secret.encode()).decode()}",
    "base64 for addresses": lambda secret: base64.urlsafe_b64encode(f"??>{secret}~".encode()).decode(),
    **{
        f"base64 in base64, {shift}": lambda secret, shift=shift: base64.b64encode(
            b"." * shift + base64.b64encode(f"me:{secret}".encode())
        ).decode()
        for shift in range(3)
    },
    "bytea": lambda secret: f"\\x{secret.encode().hex()}",
}


@pytest.mark.parametrize("form", PLANTED)
@pytest.mark.parametrize("name", SECRETS)
def test_a_planted_secret_is_found_in_this_form(name, form):
    found = search([Place("the log", "nothing"), Place("a table", PLANTED[form](SECRETS[name]))], SECRETS)
    assert {(one.secret, one.place) for one in found} == {(name, "a table")}
    assert SECRETS[name] not in str(found)


@given(before=st.binary(max_size=7), secret=st.text(min_size=SHORTEST, max_size=30), behind=st.binary(max_size=7))
def test_whatever_stands_beside_it_a_secret_is_found_in_base64(before, secret, behind):
    try:
        text = base64.b64encode(before + secret.encode() + behind).decode()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert search([Place("here", text)], {"one": secret})


def test_a_secret_in_a_name_is_found_too():
    found = search([Place(f"s3://bucket/{SECRETS['token']}.dump", "")], SECRETS)
    assert [(one.secret, one.form) for one in found] == [("token", "as it is")]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_other_text_has_none(text):
    assert search([Place("here", text)], SECRETS) == []


def test_what_is_too_short_is_refused_by_name():
    with pytest.raises(ValueError, match="too short to be searched for: pin"):
        search([], {"pin": "1234", "token": SECRETS["token"]})


def test_each_is_told_once_for_each_form():
    assert search([Place("here", "0123456789abcdef " * 2)], SECRETS) == [Found("token", "as it is", "here")]
