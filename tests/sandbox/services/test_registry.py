"""The registry tells the digest that the cluster runs, to those who may know."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest

from sandbox.hotel.releases import RELEASES
from sandbox.services.connections import REGISTRY_USER
from sandbox.services.registry import catalogue

NAME = "ai-hotel/pms"


@pytest.fixture
def registry(settings):
    auth = (REGISTRY_USER, settings.secrets.registry)
    with httpx.Client(base_url=settings.url("registry"), auth=auth, trust_env=False) as client:
        yield client


@pytest.fixture
def entries(settings):
    return json.loads(catalogue(settings).read_text())["images"]


def test_every_manifest_hashes_to_its_digest(registry, entries):
    assert len(entries) == len(RELEASES) + 1  # the scanner
    for entry in entries:
        name = entry["repository"].partition("/")[2]
        by_tag = registry.get(f"/v2/{name}/manifests/{entry['tag']}")
        by_digest = registry.get(f"/v2/{name}/manifests/{entry['digest']}")
        assert by_tag.content == by_digest.content
        assert f"sha256:{hashlib.sha256(by_tag.content).hexdigest()}" == entry["digest"]
        assert by_tag.headers["docker-content-digest"] == entry["digest"]
        assert by_tag.headers["content-type"] == by_tag.json()["mediaType"]


def test_head_tells_the_digest_without_the_manifest(registry, entries):
    answer = registry.head(f"/v2/{NAME}/manifests/v1.1.0")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["docker-content-digest"] == next(e["digest"] for e in entries if e["tag"] == "v1.1.0")


def test_what_is_not_there_is_404(registry):
    for path in (f"/v2/{NAME}/manifests/v9.9.9", f"/v2/{NAME}/manifests/sha256:{'0' * 64}", "/v2/x/manifests/v1.0.0"):
        answer = registry.get(path)
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("path", ["/v2/", f"/v2/{NAME}/manifests/v1.0.0", f"/v2/{NAME}/tags/list"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !"}])
def test_nobody_reads_without_the_right_credentials(settings, path, headers):
    answer = httpx.get(settings.url("registry") + path, headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_the_password_is_also_a_bearer_token(settings):
    headers = {"Authorization": f"Bearer {settings.secrets.registry}"}
    answer = httpx.get(f"{settings.url('registry')}/v2/{NAME}/tags/list", headers=headers, trust_env=False)
    assert "v1.7.0" in answer.json()["tags"]


def test_the_password_is_not_on_the_command_line(services, settings):
    import psutil

    for process in services.processes:
        line = " ".join(psutil.Process(process.pid).cmdline())
        assert settings.secrets.registry not in line
        assert settings.secrets.postgres not in line
