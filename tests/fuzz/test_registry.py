"""A registry, or who answers in its place: a digest, or why there is none; and nobody else gets its login."""

from __future__ import annotations

import re

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from handover.workload import registry
from handover.workload.registry import ImageMissing, RegistryRefused, resolve
from tests.fuzz.network import BODIES, ELSEWHERE, HEADER, HEADERS, network, said
from tests.fuzz.strategies import ANYTHING, TEXT
from tests.support.fuzz import fuzz, tried
from tests.support.steps import connect_to

DIGEST = f"sha256:{'a' * 64}"
PASSWORD, BASIC = "s3cret-of-the-robot", "cm9ib3Q6czNjcmV0LW9mLXRoZS1yb2JvdA=="
OWN = ("https://registry.example/token", "http://registry.example/token", "https://registry.example:99/t")
OWN = ("https://registry.example/token", "http://registry.example/token", "https://registry.example:99/t")
REALMS = st.sampled_from((*ELSEWHERE, *OWN))
CHALLENGES = st.builds(
    '{} realm="{}",service="s",scope="x"'.format, st.sampled_from(["Bearer", "bearer", "Basic"]), REALMS | HEADER
)
DIGESTS = st.sampled_from([DIGEST, "sha256:", DIGEST.upper(), f"{DIGEST} ", f"{DIGEST}0"])
ANSWER = said(
    st.fixed_dictionaries({}, optional={"token": ANYTHING, "access_token": ANYTHING, "errors": ANYTHING}) | BODIES,
    st.builds(dict.__or__, HEADERS, st.fixed_dictionaries({}, optional={
        "WWW-Authenticate": CHALLENGES | HEADER,
        "Docker-Content-Digest": HEADER | DIGESTS,
    })),
)  # fmt: skip


@pytest.fixture
def connected(monkeypatch):
    connect_to(monkeypatch, "registry", host="https://registry.example", login="robot", password=PASSWORD)


@fuzz("registry")
@given(answers=st.lists(ANSWER, min_size=1, max_size=6), reference=st.sampled_from(["v1.1.0", DIGEST]))
def test_whatever_it_answers_there_is_a_digest_or_a_reason(connected, answers, reference):
    with network(answers) as there:
        found, why = tried(
            lambda: resolve("registry", "registry.example/shop/web", reference),
            ImageMissing, RegistryRefused, requests.RequestException,
        )  # fmt: skip
    assert found is None or re.fullmatch("sha256:[0-9a-f]{64}", found)
    assert found is None or reference in ("v1.1.0", found)
    assert PASSWORD not in why and BASIC not in why
    assert there.hosts_with(PASSWORD, BASIC) <= {"registry.example"}
    assert not [one.url for one in there.asked if BASIC in str(dict(one.headers)) and not one.url.startswith("https:")]


@fuzz("registry")
@given(TEXT | CHALLENGES | st.text('="abc, \\\n', max_size=200))
def test_any_challenge_has_a_scheme_and_parameters(header):
    (scheme, parameters), _ = tried(lambda: registry.challenge(header))
    assert scheme == scheme.lower() and all(isinstance(one, str) for one in parameters.values())
