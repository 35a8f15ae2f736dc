"""``python -m handover watch`` as a process: it says what it watches, shows that it lives, and ends when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from handover.cli.watch import main
from tests.support.cluster import ROOT
from tests.support.until import until


def test_it_lives_until_it_is_told_to_end(tmp_path):
    alive = tmp_path / "alive"
    process = subprocess.Popen(
        [sys.executable, "-m", "handover", "watch", "--plan", "include/plans/pms.yaml", "--alive", str(alive)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": "plugins:config"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(alive.exists, "the sign of life")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "watching the deployments of pms" in said


def test_a_plan_that_is_wrong_is_refused(tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: broken")
    assert main("watch", ["--plan", str(broken)]) == 1
    assert "refused: " in capsys.readouterr().err


def test_help_says_what_it_needs(capsys):
    with pytest.raises(SystemExit):
        main("watch", ["--help"])
    assert "AIRFLOW_CONN_" in capsys.readouterr().out
