"""The linter's findings with the plan's severity; that whatever it does not answer refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from handover.database import lint
from handover.database.migrations import Bundle
from handover.plan.migration import LintRules
from tests.database.conftest import bundle

RULES = LintRules()


def judged(rules: LintRules = RULES, **scripts: str | tuple[str, str]) -> lint.Judged:
    return lint.judged(bundle(**scripts).scripts, rules, 18)


def rules_of(found: list[str]) -> list[str]:
    return [text.split(": ")[1] for text in found]


def test_what_may_hurt_warns_with_file_and_line_and_style_is_not_told() -> None:
    found = judged(m1="CREATE TABLE t (n int, c varchar(9));\n\nDROP INDEX i;\nALTER TABLE t ALTER n TYPE bigint")
    assert found.refusals == []
    assert [text.split(": ")[:2] for text in found.warnings] == [
        ["m1/migration.sql:3", "require-concurrent-index-deletion"],
        ["m1/migration.sql:4", "changing-column-type"],
    ]
    assert found.told.startswith("; warnings: m1/migration.sql:3: require-concurrent-index-deletion: A normal")


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("TRUNCATE orders CASCADE", "ban-truncate-cascade"),
        ("DROP DATABASE other", "ban-drop-database"),
        ("SELEC 1; DROP TABLE orders", "syntax-error"),
    ],
)
def test_what_is_never_right_refuses_in_both_directions(sql: str, rule: str) -> None:
    assert rule in rules_of(judged(m1=sql).refusals)
    back = judged(m1=("SELECT 1", sql)).refusals
    assert rule in rules_of(back)
    assert back[0].startswith("m1/down.sql:1: ")


def test_the_plan_decides_what_refuses_and_what_is_ignored() -> None:
    plan = LintRules(refuse=("ban-drop-column", "require-table-schema"), ignore=("ban-drop-table",))
    found = judged(plan, m1="ALTER TABLE public.t DROP COLUMN a; DROP TABLE public.u; CREATE TABLE t (id text)")
    assert rules_of(found.refusals) == ["ban-drop-column", "require-table-schema"]  # also one that squawk leaves off
    assert found.warnings == []


def test_a_file_may_ask_to_pass_a_line_over_and_that_is_said() -> None:
    found = judged(m1="-- squawk-ignore ban-truncate-cascade\nTRUNCATE t CASCADE;\nTRUNCATE u CASCADE;")
    assert [text.partition(": ")[0] for text in found.refusals] == ["m1/migration.sql:3"]
    (warning,) = found.warnings
    assert warning.startswith("m1/migration.sql:2: ban-truncate-cascade") and "squawk-ignore" in warning


def test_what_the_runner_does_for_every_migration_is_no_finding() -> None:
    ordinary = "BEGIN; ALTER TABLE t ADD COLUMN a text; COMMIT;"
    assert judged(m1=(ordinary, "SELECT 1"), m2="CREATE INDEX CONCURRENTLY i ON t (a)") == lint.Judged([], [])


def test_an_index_that_is_built_concurrently_among_other_statements_refuses() -> None:
    found = judged(m1="SELECT 1; CREATE INDEX CONCURRENTLY i ON t (a)")
    assert rules_of(found.refusals) == ["ban-concurrent-index-creation-in-transaction"]


def test_many_warnings_are_counted() -> None:
    told = judged(m1="".join(f"DROP TABLE t{n};\n" for n in range(lint.SHOWN + 2))).told
    assert told.count("ban-drop-table") == lint.SHOWN and told.endswith("and 2 more")


def test_a_file_that_nobody_can_read_is_not_passed_over() -> None:
    scripts = Bundle.from_files({"m1/migration.sql": b"SELECT 1", "m1/down.sql": b"DROP TABLE caf\xe9"}).scripts
    assert lint.judged(scripts, RULES, 18).refusals == ["m1: down.sql is not UTF-8"]


def test_nothing_pending_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "_program", lambda: "/nowhere")
    assert judged() == lint.Judged([], [])
    assert judged().told == ""


def test_a_rule_that_there_is_not_refuses_by_name() -> None:
    (said,) = judged(LintRules(refuse=("ban-drop-tables",)), m1="SELECT 1").refusals
    assert said.startswith(
        "m1/migration.sql was not judged: squawk ended with 2: error: invalid value 'ban-drop-tables'"
    )


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("exit 3", "squawk ended with 3: no message"),
        ("echo gone >&2; kill -9 $$", "squawk ended with -9: gone"),
        ("echo hello", "squawk's answer is not one of the kind that is known here"),
        ("exit 1", "squawk's answer is not one of the kind that is known here"),
        ("echo '[]'; exit 1", "squawk ended with 1 and gave 0 findings"),
        ("echo '[{\"line\": 0}]'; exit 1", "squawk's answer is not one of the kind that is known here"),
        (
            'echo \'[{"line": 0, "column": 0, "level": "Warning", "rule_name": "a", "message": "b"}]\'',
            "squawk ended with 0 and gave 1 findings",
        ),
        (
            'echo \'[{"line": 0, "column": 0, "level": "Error", "rule_name": "a", "message": "b"}]\'; exit 1',
            "squawk gave a as Error",
        ),
        (
            'echo \'[{"line": 0, "column": 0, "level": "Fatal", "rule_name": "a", "message": "b"}]\'; exit 1',
            "squawk's answer is not one of the kind that is known here",
        ),
    ],
)
def test_an_answer_that_nobody_understands_refuses(
    does: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "squawk"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setattr(lint, "_program", lambda: str(program))
    assert judged(m1="SELECT 1").refusals == [f"m1/migration.sql was not judged: {said}"]


def test_without_a_linter_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert judged(m1="SELECT 1").refusals == [
        "m1/migration.sql was not judged: squawk is not installed (squawk-cli in requirements.txt)"
    ]


def test_settings_that_lie_about_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["ban-truncate-cascade"]\n')
    monkeypatch.chdir(tmp_path)
    assert rules_of(judged(m1="TRUNCATE t CASCADE").refusals) == ["ban-truncate-cascade"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"refuse": ["Ban Drop"]},
        {"refuse": ["a,b"]},
        {"refuse": ["ban-drop-table"], "ignore": ["ban-drop-table"]},
        {"ignore": ["syntax-error"], "refuse": []},
    ],
)
def test_rules_that_contradict_themselves_are_refused_with_the_plan(wrong: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        LintRules.model_validate(wrong)


def test_it_is_the_linter_that_is_installed_with_us() -> None:
    assert Path(lint._program()).parent == Path(sys.executable).parent
