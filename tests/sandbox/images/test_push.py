"""Pushing to a real registry: complete, by digest, and nothing twice."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from sandbox.images import layout, push
from sandbox.settings import SandboxError
from tests.sandbox.images.conftest import PASSWORD, USER
from tests.sandbox.images.test_layers import FILES, layer, recipe

pytestmark = pytest.mark.sandbox


@pytest.fixture
def two(tmp_path):
    below = layer(tmp_path, "below", list(FILES))
    layout.write(tmp_path / "out", [recipe(below, "v1", A="1"), recipe(below, "v2", A="2")])
    return layout.read(tmp_path / "out")


def test_what_is_pushed_can_be_pulled_by_digest(registry, two):
    push(two, registry.url, USER, PASSWORD)
    with httpx.Client(base_url=f"{registry.url}/v2/a/b", auth=(USER, PASSWORD), trust_env=False) as client:
        for image in two:
            answer = client.get(f"/manifests/{image.digest}", headers={"accept": layout.MANIFEST}).raise_for_status()
            assert answer.headers["content-type"] == layout.MANIFEST
            for part in (answer.json()["config"], *answer.json()["layers"]):
                content = client.get(f"/blobs/{part['digest']}").raise_for_status().content
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == part["digest"]
        assert sorted(client.get("/tags/list").json()["tags"]) == ["v1", "v2"]


def test_only_what_is_missing_is_sent(registry, two):
    assert push(two[:1], registry.url, USER, PASSWORD) == 3  # a layer, a configuration, a manifest
    before = registry.blobs()
    assert push(two, registry.url, USER, PASSWORD) == 2  # the layer is there
    after = registry.blobs()
    assert {path: after[path] for path in before} == before
    assert push(two, registry.url, USER, PASSWORD) == 0
    assert registry.blobs() == after


def test_a_tag_may_move(registry, two, tmp_path):
    push(two, registry.url, USER, PASSWORD)
    layout.write(tmp_path / "other", [recipe(layer(tmp_path, "new", ["a.sh"]), "v1")])
    (moved,) = layout.read(tmp_path / "other")
    assert push([moved], registry.url, USER, PASSWORD) == 3
    with httpx.Client(base_url=f"{registry.url}/v2/a/b", auth=(USER, PASSWORD), trust_env=False) as client:
        found = client.head("/manifests/v1", headers={"accept": layout.MANIFEST}).headers["docker-content-digest"]
        assert found == moved.digest
        assert client.head(f"/manifests/{two[0].digest}", headers={"accept": layout.MANIFEST}).status_code == 200


def test_a_wrong_password_is_named(registry, two):
    with pytest.raises(SandboxError, match="401") as refused:
        push(two, registry.url, USER, "a wrong secret")
    assert "a wrong secret" not in str(refused.value)


def test_a_registry_that_is_down_is_named(two):
    with pytest.raises(SandboxError, match=r"127\.0\.0\.1:1 does not answer"):
        push(two, "http://127.0.0.1:1", USER, PASSWORD)
