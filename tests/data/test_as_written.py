"""A value of a seed is the text that stands in the file, whatever YAML would take it for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handover.data.as_written import read
from handover.plan.text import TwiceThere

WRITTEN = ["NO", "yes", "on", "True", "01234", "0049123", "08:30", "22:30", "190:20:30", "1.10", "1_000", "0x1F",
           "0o17", "1e3", ".5", "+1", "-0", ".inf", ".nan", "2030-01-07", "2024-02-30", "2001-12-14t21:59:43.10-05:00",
           "=", "Nil", "None"]  # fmt: skip


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("form", ["a: {}", 'a: "{}"', "a: '{}'", "a: !!str {}", "b: [&x {}]\na: *x", "a: {} # said"])
def test_a_value_is_its_text(written: str, form: str) -> None:
    assert read(form.format(written))["a"] == written


@pytest.mark.parametrize("written", ["", "~", "null", "Null", "NULL"])
def test_nothing_is_nothing_unless_it_is_quoted(written: str) -> None:
    assert read(f"a: {written}") == {"a": None}
    assert read(f"a: '{written}'") == read(f"a: !!str {written}") == {"a": written}


def test_keys_are_text_too_and_merged_maps_stay() -> None:
    assert read("no: 1\n1: x\nbase: &b {c: 01, d: NO}\nrow: {<<: *b, d: 1_0}") == {
        "no": "1", "1": "x", "base": {"c": "01", "d": "NO"}, "row": {"c": "01", "d": "1_0"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: !!binary aGk=", "(?s)could not determine a constructor for the tag .*binary.* line 2"),
        ("a: !point 1", "could not determine a constructor for the tag '!point'"),
        ("a: !!set {x}", "could not determine a constructor"),
        ("a: 1\n---\na: 2", "expected a single document"),
        ("a: [" * 200 + "]" * 200, "nested more than 100 levels|flow"),
        ("&a [*a]", "holds itself"),
    ],
)  # fmt: skip
def test_what_has_no_one_reading_is_refused(text: str, says: str) -> None:
    with pytest.raises(yaml.YAMLError, match=says):
        read(text)


def test_a_key_that_is_there_twice_is_named() -> None:
    with pytest.raises(TwiceThere, match=r"t\.zip is in line 2 and again in line 3"):
        read("t:\n  zip: 01234\n  zip: 01235\n")


@given(st.recursive(st.text() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_yaml_writes_of_text_comes_back(data: Any) -> None:
    assert read(yaml.safe_dump(data)) == data
