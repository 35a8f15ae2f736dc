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
    "password='it\\'s s3cr'", "password='it''s s3cr'", 'password="it""s s3cr"', r'{\"password\": \"s3cr s3cr\"}',
    f"SECRET_KEY={SECRET}", f"SECRET_KEY_BASE: {SECRET}", f"AccountKey={SECRET}==;EndpointSuffix=core.windows.net",
    f"Endpoint=sb://x/;SharedAccessKey={SECRET}", f"Server=h;Uid=u;Pwd={SECRET};", f"X-Api-Key: {SECRET}",
    f"Ocp-Apim-Subscription-Key: {SECRET}", f"Set-Cookie: session={SECRET}; Path=/", f"Cookie: a=1; session={SECRET}",
    f'{{"Set-Cookie": "a=1; b={SECRET}"}}', f"JSESSIONID={SECRET}",
    f'Authorization: Digest username="x", response="{SECRET}"',
    "https://hooks.slack.com/services/T0S3CR/B0S3CR/s3crs3crs3cr", "https://discord.com/api/webhooks/1/s3cr-s3cr",
    "https://x.webhook.office.com/webhookb2/s3cr@s3cr/IncomingWebhook/s3cr", f"https://h/c?sv=1&sig={SECRET}&se=2",
    f"https://h/o?X-Amz-Signature={SECRET}", f"https://{'s3cr' * 8}@o1.ingest.sentry.io/1", f"AIzaSy{'s3cr' * 8}",
    f"ya29.{'s3cr' * 8}", f"GOCSPX-{'s3cr' * 7}", f"npm_{'s3cr' * 9}",
    f"sk-proj-{'s3cr' * 8}", f"sk-ant-api03-{'s3cr' * 8}",
    f"sk_test_{'s3cr' * 6}", f"whsec_{'s3cr' * 6}", f"hf_{'s3cr' * 9}", f"hvs.{'s3cr' * 8}", f"glsa_{'s3cr' * 8}_s3cr",
    f"sntrys_{'s3cr' * 8}", f"ATATT3{'s3cr' * 8}=S3CR", f"SG.{'s3cr' * 5}.{'s3cr' * 8}", f"pypi-AgEIcH{'s3cr' * 8}",
    f"dckr_pat_{'s3cr' * 6}", f"glrt-{'s3cr' * 5}", PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
    PEM.replace("RSA ", "ENCRYPTED "), f"mongodb+srv://app:{SECRET}@db/x", f"amqp://app:{SECRET}@mq:5672/%2f",
]  # fmt: skip
WORDS = st.text(st.sampled_from(string.ascii_lowercase + " \n.,"), max_size=60)


@pytest.mark.parametrize("number", range(len(PLANTED)))
def test_no_secret_of_a_known_shape_is_left(number):
    found = by_shape(f"it said {PLANTED[number]}")
    assert "s3cr" not in found.lower()
    assert by_shape(found) == found


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
        "cookie: none was sent", "unexpected token: foo", "basic read-only access", "the token pms_github is old",
        "asiasoutheastcluster", "http://h:8080?to=a@b", "npm_config_registry=https://x",
        "sk-learn-is-a-long-name", "primary_key=id", "image digest sha256:abc", "max_tokens=100",
        "pypi-publish-workflow-of-the-team", "https://user@host/x", "https://hooks.slack.com is away",
        "session 5 ended",
        "it's password-free", "hf_home=/srv/models", "SG.1 is full",
        "token: ", "the connection's extra has no 'test_email': the checks need a test user",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_as_it_is(said):
    assert by_shape(said) == said


@given(st.text())
def test_any_text_can_be_redacted(text):
    assert by_shape(by_shape(text)) == by_shape(text)


@pytest.mark.parametrize("piece", [
    "a", "://", "password", "token ", "://a:", "eyJ", "=", "-----BEGIN PRIVATE KEY-----", "--a", "a://a:", " --a", "''",
    "cookie:a=", "&sig=", "password='\\", "password='", 'password=\\"', "sk-", "a://1", "digest ", "digest username=",
    "hooks.slack.com/services/",
])  # fmt: skip
def test_a_text_that_is_made_to_be_slow_is_not(piece):
    """A quadratic pattern would take minutes for as many."""
    by_shape(piece * (500_000 // len(piece)))
