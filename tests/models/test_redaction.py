"""Nothing that looks like a secret gets through, wherever it stands, and other words do."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.models.redaction import by_shape

SECRET = "s3cr-3t_Value.9"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s3crs3crs3cr"
PEM = "-----BEGIN RSA PRIVATE KEY-----\ns3cr\ns3cr\n-----END RSA PRIVATE KEY-----"
PLANTED = [
    f"postgres://app:{SECRET}@db:5432/x", f"redis://:{SECRET}@cache", f"https://a:p@{SECRET}@host/",
    f"PASSWORD={SECRET}", f"DB_PASSWORD={SECRET}", f"jwt_secret: {SECRET}", f'{{"password": "{SECRET}"}}',
    f"{{'apiKey': '{SECRET}'}}",
    f"--token {SECRET}", f"--db-password={SECRET}", f"Authorization: Bearer {SECRET}", f"bearer {SECRET}",
    f"Authorization: Basic {SECRET}==", f"aws_secret_access_key = {SECRET}", f'client_secret="{SECRET} and more"',
    "AKIAS3CRS3CRS3CRS3CR", f"ghp_{'s3cr' * 9}", "xoxb-s3cr-s3crs3cr", JWT, PEM, PEM[:40] + "s3cr",
]  # fmt: skip
WORDS = st.text(st.sampled_from(string.ascii_lowercase + " \n.,"), max_size=60)


@given(before=WORDS, secret=st.sampled_from(PLANTED), after=WORDS)
def test_no_secret_of_a_known_shape_is_left_in_any_words(before, secret, after):
    found = by_shape(f"{before}\n{secret}\n{after}")
    assert "s3cr" not in found.lower()
    assert by_shape(found) == found


@pytest.mark.parametrize(
    "said",
    [
        "GET /health: 500 instead of 200", "secret pms-secrets not found", "Job pms-smoke gets no pod: exceeded quota",
        "https://registry.example.com:5000/v2/shop@sha256", "no token was given, basic authentication is needed",
        "error_rate: 5 % (limit 1 %)", "the Secret pms-secrets: key DATABASE_URL is missing", "2 of 3 passed; 1 failed",
        "token: ", "the connection's extra has no 'test_email': the checks need a test user",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_as_it_is(said):
    assert by_shape(said) == said


@given(st.text())
def test_any_text_can_be_redacted(text):
    assert by_shape(by_shape(text)) == by_shape(text)


@pytest.mark.parametrize(
    "piece",
    ["a", "://", "password", "token ", "://a:", "eyJ", "=", "-----BEGIN PRIVATE KEY-----", "--a", "a://a:", " --a"],
)
def test_a_text_that_is_made_to_be_slow_is_not(piece):
    """A quadratic pattern would take minutes for as many."""
    by_shape(piece * (500_000 // len(piece)))
