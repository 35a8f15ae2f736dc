"""What is found is accepted with a reason until a day, or fails; what was not looked at is never said to be clean."""

from __future__ import annotations

import datetime
import json
import re
import subprocess

import pytest
import yaml

from sandbox.kubernetes.build import go
from scripts.scan import (
    ACCEPTED,
    LOCKS,
    REQUIREMENTS,
    Accepted,
    Book,
    Finding,
    NotScannedError,
    Scanned,
    code,
    idle,
    once_each,
    pins,
    problems,
    read_audit,
    secrets,
)

TODAY = datetime.date(2026, 11, 29)
FOUND = Finding("S608", "plugins/a.py:7", "Possible SQL injection")
BOOK = Book.model_validate(yaml.safe_load(ACCEPTED.read_text()))


def accepted(rule="S608", where=("plugins/a.py:*",), until=TODAY):
    return Accepted(rule=rule, where=where, reason="Only names of ours.", until=until)


def test_what_nobody_accepted_fails():
    assert list(problems([FOUND], [], TODAY)) == ["S608 at plugins/a.py:7: Possible SQL injection"]
    assert list(problems([FOUND], [accepted()], TODAY)) == []


@pytest.mark.parametrize("other", [accepted(rule="S105"), accepted(where=["plugins/b.py:*"])])
def test_an_acceptance_holds_for_its_own_rule_and_place(other):
    assert len(list(problems([FOUND], [other], TODAY))) == 1
    (said,) = idle([FOUND], [other])
    assert "where it is not found" in said


def test_an_acceptance_of_what_is_there_is_not_idle():
    assert list(idle([FOUND], [accepted()])) == []


def test_an_acceptance_ends():
    (said,) = problems([FOUND], [accepted()], TODAY + datetime.timedelta(days=1))
    assert said == "S608 at plugins/a.py:7: accepted until 2026-11-29: look again"


@pytest.mark.parametrize("lacking", ["reason", "until", "where", "rule"])
def test_an_acceptance_says_what_where_why_and_until_when(lacking):
    whole = accepted().model_dump()
    with pytest.raises(ValueError, match=lacking):
        Accepted.model_validate({name: value for name, value in whole.items() if name != lacking})


# --- vulnerabilities


def audited(**vulns):
    return json.dumps({"dependencies": [{"name": n, "version": "1.0", "vulns": v} for n, v in vulns.items()]})


def test_a_vulnerability_is_told_with_the_version_that_mends_it():
    said = audited(good=[], bad=[{"id": "PYSEC-2026-1", "fix_versions": ["1.1"]}])
    assert read_audit(said, ["good==1.0", "Bad==1.0"]) == [Finding("PYSEC-2026-1", "Bad==1.0", "mended by 1.1")]


@pytest.mark.parametrize(
    "said",
    [
        json.dumps({"dependencies": [{"name": "a", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}),
        audited(b=[]),
        audited(),
        "",
        "{}",
        "[]",
    ],
)
def test_a_package_that_the_index_does_not_answer_for_is_not_taken_for_a_safe_one(said):
    with pytest.raises(NotScannedError):
        read_audit(said, ["a==1.0"])


def test_every_pin_of_every_lock_file_is_asked_for_whatever_python_it_is_for():
    pinned = pins()
    lists = once_each(pinned)
    assert sorted(pin for each in lists for pin in each) == sorted(pinned)
    for each in lists:
        assert len({pin.partition("==")[0] for pin in each}) == len(each)
    assert "lock.txt" in pinned[next(pin for pin in pinned if pin.startswith("apache-airflow=="))]


@pytest.mark.parametrize("name", LOCKS)
def test_no_package_of_a_lock_file_is_taken_without_its_hash(name):
    pinned = [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", (REQUIREMENTS / name).read_text()) if "==" in block]
    assert pinned
    assert [block.split()[0] for block in pinned if "--hash=sha256:" not in block] == []


# --- code and secrets


def test_every_exception_from_ruffs_security_rules_has_its_reason():
    assert list(problems(code().findings, BOOK.code, datetime.date.min)) == []


def git(folder, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def leaky(tmp_path):
    """A repository in whose history, and no longer in whose files, a key stands."""
    git(tmp_path, "init", "--quiet")
    key = "ghp_" + "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY2zA4"
    for text in (f'token = "{key}"\n', "token = None\n"):
        (tmp_path / "settings.py").write_text(text)
        git(tmp_path, "add", "settings.py")
        git(tmp_path, "commit", "--quiet", "-m", "Settings")
    return tmp_path, key


@pytest.mark.slow
@pytest.mark.skipif(go() is None, reason="Go is missing, which builds gitleaks")
def test_a_secret_that_was_taken_out_again_is_found_in_the_history_and_not_repeated(leaky):
    repository, key = leaky
    scanned = secrets(repository)
    assert [(one.rule, one.where) for one in scanned.findings] == [("github-pat", "settings.py:1")]
    assert isinstance(scanned, Scanned) and key not in repr(scanned)


@pytest.mark.slow
@pytest.mark.skipif(go() is None, reason="Go is missing, which builds gitleaks")
def test_a_clone_without_its_history_is_not_taken_for_a_clean_one(leaky, tmp_path_factory):
    shallow = tmp_path_factory.mktemp("shallow")
    git(shallow, "clone", "--quiet", "--depth", "1", f"file://{leaky[0]}", "clone")
    with pytest.raises(NotScannedError, match="whole history"):
        secrets(shallow / "clone")
