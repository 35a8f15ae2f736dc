"""What the properties of this room have in common: JSON of any form, hostile texts, good inputs that were damaged."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

HOSTILE = (
    "$(touch /tmp/x)", "`id`", "; rm -rf /", "' OR 1=1 --", "{{ 7*7 }}", "{% raw %}", "{0.__class__}", "%s%n",
    "../../etc/passwd", "<script>alert(1)</script>", "<!channel>", "[a](javascript:1)", "\0", "\r\nX-Header: 1",
    "\u202e", "\ud800", "nan", "1e999", "-0", "9" * 400, "!!python/object/apply:os.system ['id']", "&a [*a]", "*a",
    "<<: *a", "\ufeff", "v1.2.3\n", "\u0661", "=cmd|' /C calc'!A0",
)  # fmt: skip
_HOSTILE = st.sampled_from(HOSTILE)
TEXT = st.text(max_size=40) | _HOSTILE | st.builds("{}{}".format, st.text(max_size=8), _HOSTILE)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63), 10**400, float("nan"), float("inf"), -1, 0])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXT
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)


@st.composite
def damaged(draw: st.DrawFn, good: bytes | SearchStrategy[bytes], pieces: Sequence[bytes] = ()) -> bytes:
    """Good bytes after a few changes: cut, doubled, overwritten, with `pieces` put in."""
    data = draw(good) if isinstance(good, SearchStrategy) else good
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 600)))
        how = draw(st.sampled_from(("cut", "end", "twice", "bytes", "piece", "zeros")))
        put = {
            "cut": b"", "twice": data[at:to] * 2, "zeros": bytes(to - at), "end": b"",
            "bytes": draw(st.binary(max_size=32)) if how == "bytes" else b"",
            "piece": draw(st.sampled_from(pieces)) if how == "piece" and pieces else b"",
        }[how]  # fmt: skip
        data = data[:at] + put + (b"" if how == "end" else data[to:])
    return data


@st.composite
def changed(draw: st.DrawFn, good: object) -> object:
    """A value of JSON with one or more of its parts replaced, left out or added."""
    for _ in range(draw(st.integers(1, 3))):
        good = _changed(draw, good)
    return good


def _changed(draw: st.DrawFn, value: object) -> object:
    if draw(st.integers(0, 5)) == 0 or not isinstance(value, dict | list) or not value:
        return draw(ANYTHING)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        return [_changed(draw, one) if number == at else one for number, one in enumerate(value)]
    key = draw(st.sampled_from(sorted(value, key=str)))
    how = draw(st.sampled_from(("change", "change", "leave out", "add")))
    if how == "leave out":
        return {one: inner for one, inner in value.items() if one != key}
    if how == "add":
        return {**value, draw(TEXT): draw(ANYTHING)}
    return {**value, key: _changed(draw, value[key])}
