"""The stand-in for Trivy keeps the parts of its contract that a pipeline rests on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sandbox.hotel.build import TRIVY, VULNERABILITIES
from tests.support.web import Answer, serving

IMAGE = "ghcr.io/a/b@sha256:" + "0" * 64


def trivy(found: str, *words: str, image: str = IMAGE, **env: str) -> subprocess.CompletedProcess[str]:
    def answer(asked):
        known = asked.path in (f"/v2/a/b/manifests/sha256:{'0' * 64}", "/v2/a/b/manifests/v1")
        return Answer(200, {"annotations": {VULNERABILITIES: found}}) if known else Answer(404)

    with serving(answer) as web:
        command = [sys.executable, TRIVY, "image", *words, image]
        return subprocess.run(
            command, env={"REGISTRY_MIRROR": web.url, **env}, check=False, capture_output=True, text=True, timeout=20
        )


@pytest.mark.parametrize(
    ("found", "words", "code"),
    [
        ("", ("--exit-code", "5"), 0),
        ("HIGH:CVE-1", (), 0),
        ("HIGH:CVE-1", ("--exit-code", "5"), 5),
        ("HIGH:CVE-1", ("--exit-code", "5", "--severity", "CRITICAL"), 0),
        ("LOW:CVE-1,HIGH:CVE-2", ("--exit-code", "5", "--severity", "CRITICAL,HIGH"), 5),
        ("HIGH:CVE-1", ("--exit-code", "5", "--severity", "AWFUL"), 1),
    ],
)
def test_exit_codes(found, words, code):
    assert trivy(found, *words).returncode == code


def test_what_was_found_is_printed():
    assert "CVE-2 HIGH" in trivy("LOW:CVE-1,HIGH:CVE-2", "--severity", "HIGH").stdout


@pytest.mark.parametrize("image", ["ghcr.io/a/nobody:v1", "ghcr.io/a/b:v9"])
def test_an_image_that_is_not_there_is_fatal(image):
    done = trivy("", image=image)
    assert (done.returncode, done.stderr.partition("\t")[0]) == (1, "FATAL")
    assert trivy("", image="ghcr.io/a/b:v1").returncode == 0
