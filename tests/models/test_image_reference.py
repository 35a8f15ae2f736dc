"""Names of images by the rules of the distribution specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.models.image_reference import BadImage, ImageReference
from tests.support.fuzz import fuzz

SHA = f"sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web", ("", "web", "", "")),
        ("web:v1", ("", "web", "v1", "")),
        ("shop/web", ("", "shop/web", "", "")),
        ("ghcr.io/shop/web:v1", ("ghcr.io", "shop/web", "v1", "")),
        ("ghcr.io/web", ("ghcr.io", "web", "", "")),
        ("localhost/shop/web:v1", ("localhost", "shop/web", "v1", "")),
        ("localhost:5000/web", ("localhost:5000", "web", "", "")),
        ("registry:5000/shop/web", ("registry:5000", "shop/web", "", "")),
        ("registry:5000/shop/web:v1", ("registry:5000", "shop/web", "v1", "")),
        ("kind-registry:5000/shop/web:v1.2.3-rc.1", ("kind-registry:5000", "shop/web", "v1.2.3-rc.1", "")),
        (f"web@{SHA}", ("", "web", "", SHA)),
        (f"web:v1.0.0@{SHA}", ("", "web", "v1.0.0", SHA)),
        (f"registry:5000/shop/web:v1.0.0@{SHA}", ("registry:5000", "shop/web", "v1.0.0", SHA)),
        ("10.0.0.1:5000/web:v1", ("10.0.0.1:5000", "web", "v1", "")),
        ("[fd00::1]:5000/web:v1", ("[fd00::1]:5000", "web", "v1", "")),
        ("Registry/web", ("Registry", "web", "", "")),
        ("a/b/c/d__e/f--g.h:V_1", ("", "a/b/c/d__e/f--g.h", "V_1", "")),
        ("web:5000", ("", "web", "5000", "")),
        (f"web@sha512:{'0' * 128}", ("", "web", "", f"sha512:{'0' * 128}")),
    ],
)
def test_the_parts_of_a_name(text, parts):
    found = ImageReference.parse(text)
    assert (found.host, found.path, found.tag, found.digest) == parts
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "/", "@", " web", "web ", "web\n", "we b", "Web", "web:", "web@", "web:-v1", f"web:{'v' * 129}",
        "web/", "/web", "a//b", "-web", "web-", "a..b", "a___b", "web@sha256:abc", f"web@sha256:{'A' * 64}",
        f"web@md5:{'0' * 32}", f"web@{SHA}:v1", "https://ghcr.io/web", "host:port/web", "-host.io/web", "ghcr.io/",
        "ghcr.io/:v1", "0" * 64, "ghcr.io/Shop/web", "w\u00e9b", "web:v\uff11", "a" * 256,
    ],
)  # fmt: skip
def test_what_is_no_name_is_said_clearly(text):
    with pytest.raises(BadImage) as wrong:
        ImageReference.parse(text)
    assert repr(text) in str(wrong.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("web", "docker.io/library/web:v1"),
        ("web:v1", f"index.docker.io/web@{SHA}"),
        ("shop/web", "docker.io/shop/web"),
        ("ghcr.io/web:v1", "GHCR.io/web"),
    ],
)
def test_one_repository_has_several_names(one, other):
    assert ImageReference.parse(one).is_from(ImageReference.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("shop/web", "ghcr.io/shop/web"), ("registry:5000/web", "registry:5001/web"), ("web", "web/web"),
     ("localhost/web", "web"), ("ghcr.io/web", "ghcr.io/library/web")],
)  # fmt: skip
def test_other_repositories_are_others(one, other):
    assert not ImageReference.parse(one).is_from(ImageReference.parse(other))


def test_what_a_registry_is_asked_for():
    assert ImageReference.parse("web").wanted == "latest"
    assert ImageReference.parse("web:v1").wanted == "v1"
    assert ImageReference.parse(f"web:v1@{SHA}").wanted == SHA
    assert str(ImageReference.parse("registry:5000/web:v1").at(SHA)) == f"registry:5000/web@{SHA}"


hosts = st.sampled_from(["", "localhost", "ghcr.io", "registry:5000", "10.0.0.1", "[::1]:5000", "K8S-registry.local"])
parts = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
tags = st.just("") | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
digests = st.just("") | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


@given(hosts, st.lists(parts, min_size=1, max_size=4), tags, digests)
def test_whatever_is_put_together_is_taken_apart_the_same(host, path, tag, digest):
    whole = ImageReference(host, "/".join(path), tag, digest)
    if not host and len(path) > 1 and ("." in path[0] or path[0] == "localhost"):
        path, whole = path[1:], ImageReference(path[0], "/".join(path[1:]), tag, digest)
    if "_" not in whole.host and not whole.host.endswith((".", "-")):
        assert ImageReference.parse(str(whole)) == whole


@fuzz("trigger form")
@given(st.text(max_size=40) | st.from_regex(r"[a-zA-Z0-9.:/@_\[\]-]{0,40}", fullmatch=True))
def test_any_text_is_a_name_that_can_be_written_again_or_one_clear_line(text):
    said = ""
    try:
        assert str(ImageReference.parse(text)) == text
    except BadImage as wrong:
        said = str(wrong)
    assert "\n" not in said
