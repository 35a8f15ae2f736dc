"""The record's command line: which days it is asked for."""

from __future__ import annotations

import datetime

import pytest

from handover.cli import record


@pytest.mark.parametrize(("said", "moment"), [
    ("2026-11-24", "2026-11-24T00:00+00:00"), ("2026-11-24T10:00", "2026-11-24T10:00+00:00"),
    ("2026-11-24T10:00+02:00", "2026-11-24T08:00+00:00"), ("2026-11-24T10:00Z", "2026-11-24T10:00+00:00"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["list", "dora"])
def test_since_is_the_moment_that_it_says(command, said, moment):
    since = record._parser().parse_args([command, "--since", said]).since
    assert since == datetime.datetime.fromisoformat(moment).timestamp()
