"""A tag's digest, from a registry that asks for credentials in every way of the specification."""

from __future__ import annotations

import base64
import hashlib
import socket

import pytest
import requests
from airflow.sdk import Connection

from handover.models.image_reference import ImageReference
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workload import registry
from handover.workload.registry import ImageMissing, RegistryRefused, challenge, pinned, resolve
from tests.support.steps import connect_to
from tests.support.web import Answer, Asked, serving

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
TYPED = {"Content-Type": "application/vnd.oci.image.manifest.v1+json; charset=utf-8"}
REPOSITORY = "ghcr.io/ai-hotel/pms"
BASIC = "Basic " + base64.b64encode(b"robot:secret").decode()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/t",service="s",scope="x:y"',
         ("bearer", {"realm": "https://a/t", "service": "s", "scope": "x:y"})),
        ('Basic realm="r"', ("basic", {"realm": "r"})),
        ("", ("", {})),
        ("Negotiate", ("negotiate", {})),
        ("Basic realm=reg", ("basic", {"realm": "reg"})),
        ('Bearer realm="https://a/t", service="s", Basic realm="r"',
         ("bearer", {"realm": "https://a/t", "service": "s"})),
        ('Basic realm="r", Bearer realm="https://a/t"', ("bearer", {"realm": "https://a/t"})),
        ('Negotiate, Basic realm="say, Bearer realm=x"', ("basic", {"realm": "say, Bearer realm=x"})),
        ('Bearer error="invalid_token", Basic realm="r"', ("basic", {"realm": "r"})),
    ],
)  # fmt: skip
def test_a_challenges_parts(header, found):
    assert challenge(header) == found


def plain(asked: Asked) -> Answer:
    if asked.path not in (f"/v2/ai-hotel/pms/manifests/{ref}" for ref in ("v1.1.0", DIGEST)):
        return Answer(404)
    assert "application/vnd.oci.image.index.v1+json" in asked.headers["accept"]
    return Answer(200, MANIFEST, {"Docker-Content-Digest": DIGEST})


@pytest.mark.parametrize(
    ("repository", "asked"),
    [
        ("registry:5000/shop/web", ["shop/web"]),
        ("kind-registry:5000/web", ["web"]),
        ("localhost/shop/web", ["shop/web"]),
        ("localhost:5000/shop/web", ["shop/web"]),
        ("ghcr.io/shop/web", ["shop/web"]),
        ("shop/web", ["shop/web"]),
        ("web", ["web", "library/web"]),
        ("docker.io/web", ["web", "library/web"]),
        ("10.0.0.1/shop/web", ["shop/web"]),
    ],
)
def test_a_registry_is_asked_for_the_path_without_the_host(monkeypatch, repository, asked):
    def answer(call: Asked) -> Answer:
        there = call.path == f"/v2/{asked[-1]}/manifests/v1.0.0"
        return Answer(200, MANIFEST, {"Docker-Content-Digest": DIGEST}) if there else Answer(404)

    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    plan = plan.model_copy(update={"image": plan.image.model_copy(update={"repository": repository})})
    with serving(answer) as web:
        connect_to(monkeypatch, "pms_registry", host=web.host, port=web.port, schema="http")
        assert pinned(plan, f"{repository}:v1.0.0") == f"{repository}@{DIGEST}"
        assert [call.path for call in web.asked] == [f"/v2/{name}/manifests/v1.0.0" for name in asked]
        with pytest.raises(ImageMissing, match=f"no {repository} v9"):
            pinned(plan, f"{repository}:v9")


def test_the_hub_itself_is_asked_for_what_it_calls_the_image():
    hub = Connection(conn_id="hub", conn_type="http", host="https://registry-1.docker.io")
    assert registry._names(ImageReference.parse("web"), hub) == ["library/web"]


def ask(monkeypatch, answer, reference="v1.1.0", **connection):
    with serving(answer) as web:
        connect_to(monkeypatch, "registry", host=web.host, port=web.port, schema="http", **connection)
        return resolve("registry", REPOSITORY, reference), web.asked


def test_a_tag_becomes_a_digest(monkeypatch):
    digest, asked = ask(monkeypatch, plain)
    assert digest == DIGEST
    assert [call.method for call in asked] == ["HEAD"]


def test_a_digest_must_be_there(monkeypatch):
    assert ask(monkeypatch, plain, DIGEST)[0] == DIGEST
    with pytest.raises(ImageMissing, match="push it, or correct the release"):
        ask(monkeypatch, plain, f"sha256:{'0' * 64}")


def test_a_missing_tag_is_said_clearly(monkeypatch):
    with pytest.raises(ImageMissing, match=r"no ghcr.io/ai-hotel/pms v9.9.9"):
        ask(monkeypatch, plain, "v9.9.9")


def test_a_registry_that_lies_about_a_digest(monkeypatch):
    wanted = f"sha256:{'1' * 64}"
    with pytest.raises(ImageMissing, match="answered"):
        ask(monkeypatch, lambda _: Answer(200, MANIFEST, {"Docker-Content-Digest": DIGEST}), wanted)


@pytest.mark.parametrize("head", [405, 200])
def test_without_a_digest_header_the_manifest_itself_is_hashed(monkeypatch, head):
    def answer(asked):
        return Answer(head) if asked.method == "HEAD" else Answer(200, MANIFEST, TYPED)

    digest, asked = ask(monkeypatch, answer)
    assert digest == DIGEST
    assert [call.method for call in asked] == ["HEAD", "GET"]


def test_a_manifest_may_say_itself_what_it_is(monkeypatch):
    manifest = b'{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}'
    assert ask(monkeypatch, lambda _: Answer(200, manifest))[0] == f"sha256:{hashlib.sha256(manifest).hexdigest()}"


@pytest.mark.parametrize("redirected", [False, True], ids=["at once", "after a redirect"])
@pytest.mark.parametrize(("body", "headers"), [
    (b"<html>Sign in</html>", {"Content-Type": "text/html"}), (b"<html>Sign in</html>", TYPED), (b"", {}), (b"", TYPED),
    (b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', {"Content-Type": "application/json"}), (b"[2]", TYPED),
    (b'{"schemaVersion": 2}', {"Content-Type": "application/json"}), (b'{"schemaVersion": 2}', {}),
    (b'{"schemaVersion": 1}', TYPED), (b'{"schemaVersion": true}', TYPED),
    (b'{"schemaVersion": 2, "mediaType": []}', {}),
])  # fmt: skip
def test_what_is_no_manifest_has_no_digest(monkeypatch, body, headers, redirected):
    def answer(asked):
        if redirected and asked.path != "/login":
            return Answer(302, headers={"Location": "/login"})
        return Answer(200, body, headers)

    with pytest.raises(RegistryRefused, match=r"no manifest of an image .* does the connection lead to the registry"):
        ask(monkeypatch, answer, "v9.9.9")


def test_basic_auth(monkeypatch):
    def answer(asked):
        if asked.headers.get("authorization") == BASIC:
            return plain(asked)
        return Answer(401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    assert ask(monkeypatch, answer, login="robot", password="secret")[0] == DIGEST


def test_a_token_of_the_specifications_token_service(monkeypatch):
    def answer(asked):
        if asked.path.startswith("/token"):
            assert asked.path == "/token?service=reg&scope=repository%3Aai-hotel%2Fpms%3Apull"
            return Answer(200, {"token": "t0k3n"}) if asked.headers.get("authorization") == BASIC else Answer(403)
        if asked.headers.get("authorization") == "Bearer t0k3n":
            return plain(asked)
        realm = f"http://{asked.headers['host']}/token"
        scope = f'Bearer realm="{realm}",service="reg",scope="repository:ai-hotel/pms:pull"'
        return Answer(401, headers={"WWW-Authenticate": scope})

    assert ask(monkeypatch, answer, login="robot", password="secret")[0] == DIGEST
    with pytest.raises(RegistryRefused, match="token service answered 403"):
        ask(monkeypatch, answer, login="robot", password="wrong")


def named(realm: str):
    """A registry that wants its login at the realm."""

    def answer(asked):
        if asked.headers.get("authorization") == "Bearer t0k3n":
            return plain(asked)
        return Answer(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="reg"'})

    return answer


def test_the_login_goes_to_no_host_that_a_registry_names(monkeypatch):
    with serving(lambda _: Answer(401)) as elsewhere:
        realm = f"http://localhost:{elsewhere.port}/token"
        with pytest.raises(RegistryRefused, match=r"was not sent to localhost: if that is right, .* realm_host"):
            ask(monkeypatch, named(realm), login="robot", password="secret")
    assert [asked.headers.get("authorization") for asked in elsewhere.asked] == [None]


def test_an_image_that_all_may_have_needs_no_login_elsewhere(monkeypatch):
    with serving(lambda _: Answer(200, {"token": "t0k3n"})) as elsewhere:
        realm = f"http://localhost:{elsewhere.port}/token"
        assert ask(monkeypatch, named(realm), login="robot", password="secret")[0] == DIGEST
    assert [asked.headers.get("authorization") for asked in elsewhere.asked] == [None]


def test_the_connection_may_name_where_the_login_goes(monkeypatch):
    with serving(lambda _: Answer(200, {"access_token": "t0k3n"})) as elsewhere:
        realm, extra = f"http://localhost:{elsewhere.port}/token", {"realm_host": "localhost"}
        assert ask(monkeypatch, named(realm), login="robot", password="secret", extra=extra)[0] == DIGEST
    assert [asked.headers.get("authorization") for asked in elsewhere.asked] == [BASIC]


HOME = {"own": "https://reg.example.com", "hub": "https://registry-1.docker.io", "plain": "http://reg.example.com"}


@pytest.mark.parametrize(
    ("home", "realm"),
    [
        ("own", "https://reg.example.com/token"), ("own", "https://reg.example.com:8443/token"),
        ("own", "https://REG.example.com/token"), ("hub", "https://auth.docker.io/token"),
        ("plain", "http://reg.example.com/token"), ("plain", "https://reg.example.com/token"),
    ],
)  # fmt: skip
def test_the_login_goes_to_the_registrys_own_host_and_the_hubs(home, realm):
    where = Connection(conn_id="registry", conn_type="http", host=HOME[home])
    assert registry.stranger(where, realm) == ""


@pytest.mark.parametrize(
    ("home", "realm"),
    [
        ("own", "http://reg.example.com/token"), ("own", "https://auth.docker.io/token"),
        ("own", "https://reg.example.com.evil.example/token"), ("own", "https://reg.example.com@evil.example/token"),
        ("own", r"https://evil.example\@reg.example.com/token"), ("own", "https://example.com/token"),
        ("hub", "http://auth.docker.io/token"), ("hub", "https://auth.docker.io.evil.example/"),
        ("plain", "http://evil.example/token"),
    ],
)  # fmt: skip
def test_the_login_goes_to_nobody_else_and_never_in_plain_text(home, realm):
    where = Connection(conn_id="registry", conn_type="http", host=HOME[home])
    assert "the login was not sent" in registry.stranger(where, realm)


def test_of_two_challenges_the_token_is_had_at_its_own_realm(monkeypatch):
    def answer(asked):
        if asked.path.startswith("/token"):
            return Answer(200, {"token": "t0k3n"})
        if asked.headers.get("authorization") == "Bearer t0k3n":
            return plain(asked)
        realm = f"http://{asked.headers['host']}/token"
        return Answer(401, headers={"WWW-Authenticate": f'Bearer realm="{realm}",service="reg", Basic realm="r"'})

    assert ask(monkeypatch, answer, login="robot", password="secret")[0] == DIGEST


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{}", b"7"])
def test_a_token_service_that_gives_no_token_is_refused(monkeypatch, body):
    def answer(asked):
        realm = f"http://{asked.headers['host']}/token"
        return Answer(200, body) if asked.path.startswith("/token") else named(realm)(asked)

    with pytest.raises(RegistryRefused, match="gave no token"):
        ask(monkeypatch, answer)


def test_a_manifest_without_an_end_is_no_answer(monkeypatch):
    with pytest.raises(requests.RequestException, match="larger than"):
        ask(monkeypatch, lambda _: Answer(200, b"{" * (registry.MAX_MANIFEST_BYTES + 1)))


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_registry_that_refuses_is_not_a_missing_image(monkeypatch, status):
    with pytest.raises(RegistryRefused, match=str(status)):
        ask(monkeypatch, lambda _: Answer(status))


def test_no_answer_is_left_to_be_tried_again(monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        connect_to(monkeypatch, "registry", host="127.0.0.1", port=unused.getsockname()[1])
        with pytest.raises(requests.ConnectionError):
            resolve("registry", REPOSITORY, "v1.1.0")
