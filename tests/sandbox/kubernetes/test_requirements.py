"""What is missing is said in plain sentences, with the package that has it."""

from __future__ import annotations

import pytest

from sandbox.kubernetes import build, requirements
from sandbox.kubernetes.machine import PROGRAMS
from sandbox.settings import SandboxError


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without any program, whose user has built nothing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sandbox.kubernetes.machine.SYSTEM_PATH", str(tmp_path))
    monkeypatch.setattr("sandbox.kubernetes.build.sys.executable", str(tmp_path / "python"))
    return tmp_path


def test_every_missing_program_is_named_with_its_package(bare):
    missing = "\n".join(requirements())
    for program, package in PROGRAMS.items():
        assert f"The program {program} is missing: apt-get install {package}." in missing
    assert "Go 1.26 or later is missing" in missing


def test_what_only_the_build_needs_is_not_asked_for_when_it_is_done(bare):
    (bare / "pms-sandbox" / f"kubernetes-{build.key()}" / "bin").mkdir(parents=True)
    missing = "\n".join(requirements())
    assert "gcc" not in missing and "Go 1.26" not in missing and "libseccomp-dev" not in missing
    assert "iptables" in missing


def test_another_user_than_root_is_told(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert any("root" in sentence for sentence in requirements())


def test_another_system_than_linux_is_told_nothing_else(monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert requirements() == ["A Kubernetes node needs Linux."]


def test_without_go_the_build_says_where_to_get_it(bare):
    with pytest.raises(SandboxError, match="Go is missing"):
        build.obtain(print)


def test_the_build_is_another_when_a_version_changes(monkeypatch, tmp_path):
    before = build.key()
    monkeypatch.setattr(build, "NODE", build.Module("node", ("tool",), ("-ldflags", "-s"), cgo=False))
    assert build.key() != before
