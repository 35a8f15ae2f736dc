"""A plan file: a plan, or file, line, key and reason; no alias, tag or nesting of YAML does anything else."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handover.plan.load import PlanError, load_plan
from handover.plan.model import INCLUDE, Plan
from handover.plan.text import BadDocument, TwiceThere, documents, from_yaml, lines
from tests.fuzz.strategies import TEXT, changed, damaged
from tests.support.fuzz import fuzz, nothing_happens, tried, work_below

FILE = INCLUDE / "plans" / "pms.yaml"
DATA = yaml.safe_load(FILE.read_text(encoding="utf-8"))
PIECES = (
    b"!!python/object/apply:os.system ['id']", b"!!int x", b"2026-13-40", b"&a [*a]", b"*a", b"<<: *a", b"\t", b"- ",
    b": ", b"{", b"[", b"'", b"\n---\n", b"!!binary x", b"\xff", b"%YAML 9\n", b"? ", b"!!set {a}", b"0x", b"1:2:3",
    b"!!timestamp x", b"\0", b"!!bool x",
)  # fmt: skip
LAUGHS = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
MERGES = "a: &a0 {x: 1}\n" + "".join(f"b{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30))
BOMBS = {
    "aliases": LAUGHS, "merges": MERGES, "deep": "[" * 50_000, "deep mappings": "{a: " * 20_000,
    "deep lines": "\n".join(["["] * 50_000), "deep lists": "- " * 20_000, "itself": "a: &a [*a]\n",
    "itself, in a mapping": "a: &a {b: {c: *a}}\n", "deep blocks": "\n".join("  " * n + "a:" for n in range(2000)),
}  # fmt: skip


def loaded(path):
    found, said = tried(lambda: load_plan(path), PlanError, most=100_000)
    assert isinstance(found, Plan) or said.startswith(str(path))


@fuzz("plan file")
@given(text=damaged(FILE.read_bytes(), PIECES))
def test_any_damage_to_a_plan_is_a_plan_or_is_said(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_bytes(text)
    loaded(path)


@fuzz("plan file")
@given(section=st.sampled_from(sorted(DATA)), data=st.data())
def test_any_value_of_a_key_is_taken_or_refused_with_its_place(tmp_path, section, data):
    path = tmp_path / "plan.yaml"
    wrong = {**DATA, section: data.draw(changed(DATA[section]))}
    try:
        path.write_text(yaml.safe_dump(wrong, allow_unicode=True), encoding="utf-8")
    except UnicodeEncodeError:  # half a character is in no file
        return
    loaded(path)


@fuzz("plan file")
@given(
    text=st.lists(st.sampled_from([*(one.decode(errors="replace") for one in PIECES), "a", "b: c\n", "\n"]) | TEXT).map(
        "".join
    )
)
def test_any_yaml_is_data_or_an_error_of_yaml(text):
    for read in (from_yaml, lines, lambda text: list(documents(text))):
        tried(lambda read=read: read(text), yaml.YAMLError, TwiceThere)


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_plan_that_stands_for_billions_is_refused_before_anybody_counts_them(tmp_path, bomb):
    with work_below(2_000_000), nothing_happens(), pytest.raises(yaml.YAMLError):
        from_yaml(BOMBS[bomb])
    path = tmp_path / "plan.yaml"
    path.write_text(BOMBS[bomb])
    with work_below(2_000_000), pytest.raises(PlanError):
        load_plan(path)


@pytest.mark.parametrize(
    "text", ["a: !!int x", "a: 2026-13-40", "a: !!bool x", "a: !!timestamp x", "? [a]\n: b\n", "a: 1\n---\nb: 2"]
)
def test_a_value_that_is_none_is_an_error_of_yaml(text):
    with pytest.raises(yaml.YAMLError):
        from_yaml(text)
    assert issubclass(BadDocument, yaml.YAMLError)
