"""Checks of S3, Secrets Manager, CloudWatch Logs, PostgreSQL, DNS and TLS, against stand-ins that speak as they do."""

from __future__ import annotations

import datetime
import json
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import dns.message
import dns.rrset
import psycopg
import pytest

from handover.models.evidence import Verdict
from handover.models.readiness import ENCRYPTED, RESTORE_SECONDS_TAG
from handover.readiness.storage import Newest, newest, rpo, rto
from sandbox import rehearsal
from sandbox.hotel import migrations
from sandbox.hotel.releases import BASE, MIGRATIONS, release
from sandbox.services.aws import BUCKET
from sandbox.services.aws import secrets as secrets_of
from sandbox.services.edge import certify
from tests.readiness.conftest import look
from tests.support.web import nobody, silent

REPOSITORY = {"repository": "ai-hotel/pms", "path": "prisma/migrations", "staging": "pms_staging_database"}


@contextmanager
def nobody_behind(monkeypatch, connection):
    """The connection leads to a port where nobody listens; nobody waits between two tries."""
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    known = json.loads(os.environ[variable])
    with nobody() as (host, port), monkeypatch.context() as patch:
        extra = {**known.get("extra", {}), "endpoint_url": f"http://{host}:{port}"}
        patch.setenv(variable, json.dumps({**known, "host": host, "port": port, "extra": extra}))
        patch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
        yield


# --- S3


@pytest.fixture
def s3(settings, aws):
    s3 = aws("s3")
    yield s3
    for found in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=found["Key"])


@pytest.fixture
def backup(s3):
    def put(key="production/readiness_1.dump", body=ENCRYPTED + b"x" * 100, restore=12.5, **more):
        s3.put_object(Bucket=BUCKET, Key=key, Body=body, **more)
        if restore:
            tag = {"Key": RESTORE_SECONDS_TAG, "Value": str(restore)}
            s3.put_object_tagging(Bucket=BUCKET, Key=key, Tagging={"TagSet": [tag]})

    return put


BACKUP_LINES = ["current_backup", "backup_location", "backup_encryption", "recovery_targets"]


@pytest.mark.plan(
    "Backup of current production database created",
    "Backup location: Off-site/different region",
    "Backup encryption: Verified",
)
@pytest.mark.parametrize("line", BACKUP_LINES)
def test_a_fresh_encrypted_and_restored_backup_elsewhere_passes(verdict, backup, line):
    backup()
    found = verdict(line)
    assert found.passed, found


@pytest.mark.parametrize("line", BACKUP_LINES)
def test_no_backup_fails(verdict, s3, line):
    s3.put_object(Bucket=BUCKET, Key="production/notes.txt", Body=b"x")
    assert verdict(line).verdict is Verdict.FAIL


@pytest.mark.parametrize("line", BACKUP_LINES)
def test_without_s3_nothing_is_known(verdict, monkeypatch, settings, line):
    with nobody_behind(monkeypatch, "pms_aws"):
        assert verdict(line).verdict is Verdict.UNKNOWN


def test_an_old_or_a_small_backup_fails(scope, verdict, backup):
    backup()
    later = replace(scope, now=time.time() + 90_000)
    assert look(later, kind="backup_present", max_age_seconds=86_400).verdict is Verdict.FAIL
    backup(body=b"x")
    assert verdict("current_backup").verdict is Verdict.FAIL


class Pages:
    """S3 with these keys and their times, a page for each."""

    def __init__(self, **times):
        self.times = times

    def get_paginator(self, operation):
        assert operation == "list_objects_v2"
        return self

    def paginate(self, Bucket, Prefix):
        assert (Bucket, Prefix) == ("bucket", "production/")
        for name, at in self.times.items():
            when = datetime.datetime.fromtimestamp(at, datetime.UTC)
            yield {"Contents": [{"Key": f"{Prefix}{name}.dump", "LastModified": when, "Size": 1}]}
        yield {}


def test_the_newest_backup_counts():
    found = newest(Pages(first=1.0, last=3.0, between=2.0), "bucket", "production/")
    assert found == Newest("bucket", "production/last.dump", 3.0, 1)
    assert newest(Pages(), "bucket", "production/") is None


def test_a_backup_in_productions_region_needs_a_copy_elsewhere(scope, s3, backup):
    backup()
    here = {"kind": "backup_elsewhere", "production_region": "eu-central-1"}
    assert "are all in eu-central-1" in look(scope, **here).reason
    s3.create_bucket(Bucket="copy", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for bucket in (BUCKET, "copy"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    rule = {
        "ID": "r", "Status": "Enabled", "Priority": 1, "Filter": {}, "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": "arn:aws:s3:::copy"},
    }  # fmt: skip
    s3.put_bucket_replication(
        Bucket=BUCKET, ReplicationConfiguration={"Role": "arn:aws:iam::1:role/r", "Rules": [rule]}
    )
    try:
        found = look(scope, **here)
        assert (found.verdict, "has not been copied" in found.reason) == (Verdict.FAIL, True)
        s3.put_object(Bucket="copy", Key="production/readiness_1.dump", Body=ENCRYPTED + b"x" * 100)
        assert look(scope, **here).passed
    finally:
        s3.delete_bucket_replication(Bucket=BUCKET)


def test_a_backup_that_was_not_encrypted_before_it_left_fails_wherever_it_lies(verdict, backup):
    backup(body=b"x" * 100)
    found = verdict("backup_encryption")
    assert (found.verdict, "was not encrypted before it left" in found.reason) == (Verdict.FAIL, True)


def test_without_a_key_in_the_plan_s3_has_to_encrypt_it(scope, s3, backup):
    backups = scope.plan.backups.model_copy(update={"encryption": None})
    keyless = replace(scope, plan=scope.plan.model_copy(update={"backup": backups}))
    rules = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]
    backup(body=b"x" * 100)
    assert look(keyless, kind="backup_encrypted").passed
    s3.delete_bucket_encryption(Bucket=BUCKET)
    try:
        backup(body=b"x" * 100)
        assert look(keyless, kind="backup_encrypted").verdict is Verdict.FAIL
    finally:
        s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration=rules)


@pytest.mark.plan("RTO/RPO targets", "Backup strategy tested: ✓")
def test_a_backup_that_was_never_restored_says_nothing_of_the_recovery(scope, backup):
    backup(restore=0)
    found = look(scope, kind="recovery_targets", primary="pms_primary", rto_seconds=60, rpo_seconds=300)
    assert (found.verdict, "never restored" in found.reason) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize(("seconds", "verdict"), [(None, Verdict.UNKNOWN), (59, Verdict.PASS), (60, Verdict.FAIL)])
def test_a_restore_has_to_be_quicker_than_the_target(seconds, verdict):
    assert rto("RTO", "a.dump", seconds, limit=60).verdict is verdict


@pytest.mark.parametrize(("age", "verdict"), [(299, Verdict.PASS), (300, Verdict.FAIL)])
def test_the_newest_point_has_to_be_younger_than_the_target(age, verdict):
    assert rpo("RPO", "archived WAL", age, limit=300).verdict is verdict


# --- Secrets Manager


@pytest.fixture
def vault(settings, aws):
    """Sets keys of a secret; gives it back as it was."""
    vault = aws("secretsmanager")
    before = {name: vault.get_secret_value(SecretId=name)["SecretString"] for name in ("pms/production", "pms/staging")}

    def change(name="pms/production", **values):
        vault.put_secret_value(SecretId=name, SecretString=json.dumps(json.loads(before[name]) | values))

    yield change
    for name, text in before.items():
        vault.put_secret_value(SecretId=name, SecretString=text)


@pytest.fixture
def twin_vault(stand_in, settings, monkeypatch):
    """The stand-in's secrets in memory, for what is judged of them; how they are asked for is tried on the stand-in."""
    held = secrets_of(settings)

    class Vault:
        def get_secret_value(self, SecretId):
            return {"SecretString": json.dumps(held[SecretId])}

    monkeypatch.setattr("handover.readiness.secrets.client", lambda _connection, _service: Vault())
    return held


SECRET_LINES = ["database_urls", "api_keys", "jwt_secret", "oauth_credentials"]


@pytest.mark.parametrize("line", SECRET_LINES)
def test_the_stand_ins_secrets_pass(verdict, line):
    found = verdict(line)
    assert found.passed, found


LEAK = "leaked-7f3a"


@pytest.mark.plan(
    "All environment variables configured in secrets manager",
    "API keys (OpenAI, Stripe, SendGrid)",
    "OAuth credentials (if applicable)",
)
@pytest.mark.parametrize(
    ("line", "values", "wanted"),
    [
        ("api_keys", {"STRIPE_API_KEY": ""}, Verdict.FAIL),
        ("api_keys", {"STRIPE_API_KEY": f"changeme-{LEAK}"}, Verdict.FAIL),
        ("api_keys", {"OPENAI_API_KEY": {"nested": LEAK}}, Verdict.FAIL),
        ("jwt_secret", {"JWT_SECRET": LEAK}, Verdict.FAIL),
        ("jwt_secret", {"JWT_SECRET": LEAK + "x" * (64 - len(LEAK))}, Verdict.FAIL),
        ("jwt_secret", {"JWT_SECRET": LEAK + "x" * (65 - len(LEAK))}, Verdict.PASS),
        ("database_urls", {"DATABASE_URL": f"{LEAK} not an address"}, Verdict.FAIL),
        ("database_urls", {"DATABASE_URL": f"postgresql://u:{LEAK}@/"}, Verdict.FAIL),
        ("database_urls", {"DATABASE_URL": f"postgresql://u:{LEAK}@127.0.0.1:1/db"}, Verdict.UNKNOWN),
        ("database_urls", {"DATABASE_URL": f"postgresql://u:{LEAK}@[::bad/db?x={LEAK}"}, Verdict.FAIL),
    ],
)
def test_bad_secrets_are_judged_and_never_shown(verdict, twin_vault, caplog, capfd, line, values, wanted):
    twin_vault["pms/production"] |= values
    found = verdict(line)
    assert found.verdict is wanted, found
    assert LEAK not in found.model_dump_json() + caplog.text + "".join(capfd.readouterr())


@pytest.mark.plan("Database URLs (connection strings validated)")
def test_a_database_url_with_a_wrong_password_fails_and_is_not_shown(verdict, vault, settings):
    vault(DATABASE_URL=settings.dsn("primary", "pms_database", "pms", LEAK))
    found = verdict("database_urls")
    assert found.verdict is Verdict.FAIL
    assert LEAK not in found.model_dump_json()


@pytest.mark.plan("JWT secret (>64 chars, unique to prod)")
def test_staging_and_production_must_not_share_the_jwt_secret(verdict, vault, settings):
    vault("pms/staging", JWT_SECRET=settings.secrets.jwt)
    found = verdict("jwt_secret")
    assert (found.verdict, "is the same as in pms/staging" in found.reason) == (Verdict.FAIL, True)
    assert settings.secrets.jwt not in found.model_dump_json()
    vault("pms/staging", JWT_SECRET="")
    assert verdict("jwt_secret").verdict is Verdict.UNKNOWN


def test_a_secret_that_is_not_json_is_unknown_and_not_shown(verdict, vault, aws):
    aws("secretsmanager").put_secret_value(SecretId="pms/production", SecretString=f"plain {LEAK}")
    for line in SECRET_LINES:
        found = verdict(line)
        assert found.verdict is Verdict.UNKNOWN
        assert LEAK not in found.model_dump_json()


@pytest.mark.parametrize("line", SECRET_LINES)
def test_without_secrets_manager_nothing_is_known(verdict, settings, monkeypatch, line):
    with nobody_behind(monkeypatch, "pms_aws"):
        assert verdict(line).verdict is Verdict.UNKNOWN


def test_a_secret_that_does_not_exist_is_unknown(scope, settings):
    found = look(scope, kind="secrets_present", connection="pms_aws", secret="pms/nowhere", keys=["A"])
    assert (found.verdict, "ResourceNotFoundException" in found.reason) == (Verdict.UNKNOWN, True)


# --- CloudWatch Logs

LOGS = {"connection": "pms_aws", "groups": ["/pms/production"]}


@pytest.mark.plan(
    "Logging aggregation verified", "CloudWatch logs configured", "Log retention: 90 days", "Logging configured"
)
def test_log_groups_are_fed_and_kept_for_90_days(verdict):
    assert verdict("cloudwatch_logs").passed
    assert verdict("log_retention").passed


def test_log_groups_that_are_not_as_planned_fail(scope, settings, aws):
    assert look(scope, kind="log_retention", **LOGS, days=30).verdict is Verdict.FAIL
    missing = {**LOGS, "groups": ["/pms/prod"]}  # a prefix of a group that exists
    assert look(scope, kind="log_retention", **missing, days=90).verdict is Verdict.FAIL
    later = replace(scope, now=time.time() + 7200)
    assert look(later, kind="logs_arrive", **LOGS, max_silence_seconds=3600).verdict is Verdict.FAIL
    logs = aws("logs")
    logs.create_log_group(logGroupName="/silent")
    silent = {**LOGS, "groups": ["/silent"]}
    assert look(scope, kind="log_retention", **silent, days=90).reason.startswith("/silent: unlimited days")
    assert look(scope, kind="logs_arrive", **silent, max_silence_seconds=3600).verdict is Verdict.FAIL


def test_without_cloudwatch_nothing_is_known(verdict, settings, monkeypatch):
    with nobody_behind(monkeypatch, "pms_aws"):
        assert verdict("cloudwatch_logs").verdict is Verdict.UNKNOWN
        assert verdict("log_retention").verdict is Verdict.UNKNOWN


# --- PostgreSQL


@pytest.fixture
def staging(settings):
    with psycopg.connect(
        settings.dsn("metadata", "pms_staging", "pms", settings.secrets.pms), autocommit=True
    ) as connection:
        yield connection
        for name in reversed(release("v1.1.0").migrations[len(BASE) :]):
            if name in _applied(connection):
                connection.execute((MIGRATIONS / name / "down.sql").read_bytes())
            connection.execute("DELETE FROM _prisma_migrations WHERE migration_name = %s", (name,))


def _applied(connection):
    query = "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
    return {name for (name,) in connection.execute(query)}


@pytest.mark.plan("Migration tested on staging")
def test_a_migration_that_staging_never_saw_fails(verdict, staging):
    for line in ("migration_on_staging", "rollback_script"):
        found = verdict(line)
        assert (found.verdict, "20261103100000_booking_channel" in found.reason) == (Verdict.FAIL, True)


def test_applied_but_never_rolled_back_is_half_of_it(verdict, staging):
    migrations.apply(staging, release("v1.1.0").migrations)
    assert verdict("migration_on_staging").passed
    assert verdict("rollback_script").verdict is Verdict.FAIL


@pytest.mark.plan(
    "Migration tested on staging",
    "Rollback script prepared and tested",
    "Rollback script prepared: ✓",
    "Rollback procedure tested",
)
def test_applied_rolled_back_and_applied_again_passes(verdict, staging):
    rehearsal.on_staging(staging, release("v1.1.0").migrations)
    assert verdict("migration_on_staging").passed
    assert verdict("rollback_script").passed


@pytest.mark.parametrize("line", ["migration_on_staging", "rollback_script"])
@pytest.mark.parametrize("connection", ["pms_staging_database", "pms_primary"])
def test_a_database_that_does_not_answer_is_unknown(verdict, settings, monkeypatch, line, connection):
    with nobody_behind(monkeypatch, connection):
        found = verdict(line)
    assert found.verdict is Verdict.UNKNOWN
    assert settings.secrets.pms not in found.model_dump_json()


def test_a_release_without_migrations_is_unknown(verdict, says):
    says("github", [{"name": "README.md", "type": "file"}], path="*/contents/*")
    assert verdict("migration_on_staging").verdict is Verdict.UNKNOWN


# --- DNS and TLS


@pytest.mark.plan("DNS records ready to switch", "DNS records ready")
def test_names_resolve_and_live_short(scope, verdict):
    assert verdict("dns").passed
    check = {"kind": "dns_records", "connection": "pms_dns", "max_ttl_seconds": 300}
    assert look(scope, **check, names=["nowhere.pms.example.com"]).verdict is Verdict.FAIL
    check["max_ttl_seconds"] = 30
    assert look(scope, **check, names=["api.pms.example.com"]).verdict is Verdict.FAIL


@contextmanager
def name_server(*records):
    """Answers every question with these records: owner, seconds, type, value."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer():
            asked, sender = server.recvfrom(4096)
            reply = dns.message.make_response(dns.message.from_wire(asked))
            reply.answer.extend(dns.rrset.from_text(owner, ttl, "IN", kind, to) for owner, ttl, kind, to in records)
            server.sendto(reply.to_wire(), sender)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(("alias", "address", "said"), [
    (86400, 60, "192.0.2.1, kept 86400 s (the alias shop.example.com.), at most 300 wanted"),
    (60, 3600, "192.0.2.1, kept 3600 s, at most 300 wanted"),
    (60, 60, ""),
], ids=["long_alias", "long_address", "both_short"])  # fmt: skip
def test_an_alias_that_caches_keep_for_long_counts_too(scope, monkeypatch, alias, address, said):
    records = [("shop.example.com.", alias, "CNAME", "lb.example.net."), ("lb.example.net.", address, "A", "192.0.2.1")]
    with name_server(*records) as port:
        monkeypatch.setenv("AIRFLOW_CONN_DNS", json.dumps({"conn_type": "generic", "host": "127.0.0.1", "port": port}))
        names = {"names": ["shop.example.com"], "max_ttl_seconds": 300}
        found = look(scope, kind="dns_records", connection="dns", **names)
    assert (found.verdict is Verdict.FAIL, found.passed) == (bool(said), not said)
    assert said in found.reason


def test_a_name_server_that_does_not_answer_is_unknown(verdict, settings, monkeypatch):
    monkeypatch.setattr("handover.readiness.network.TIMEOUT_SECONDS", 0.05)
    with nobody_behind(monkeypatch, "pms_dns"):
        assert verdict("dns").verdict is Verdict.UNKNOWN


def test_the_stand_ins_certificate_passes(verdict):
    found = verdict("certificates")
    assert found.passed, found
    assert 88 < found.measurements[0].value < 91


@contextmanager
def serving_tls(folder, monkeypatch, trusted=True, **certificate):
    """A server with a certificate of its own, behind the connection `pms_edge`."""
    ca = certify(folder, **certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "edge.pem")
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    extra = {"ca_file": str(ca)} if trusted else {}
    edge = {"conn_type": "http", "host": "127.0.0.1", "port": server.getsockname()[1], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_EDGE", json.dumps(edge))
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


TLS = {"kind": "tls_certificates", "connection": "pms_edge", "names": ["api.pms.example.com"], "min_days": 30}


@pytest.mark.plan("SSL certificates valid for next 30+ days", "SSL certificates valid")
@pytest.mark.parametrize(
    ("certificate", "wanted", "reason"),
    [
        ({"days": 90}, Verdict.PASS, "valid for 90 days"),
        ({"days": 10}, Verdict.FAIL, "valid for 10 days"),
        ({"days": -1}, Verdict.FAIL, "expired"),
        ({"names": ("other.example.com",)}, Verdict.FAIL, "Hostname mismatch"),
        ({"trusted": False}, Verdict.FAIL, "unable to get local issuer"),
    ],
)
def test_certificates_as_clients_see_them(scope, tmp_path, monkeypatch, certificate, wanted, reason):
    with serving_tls(tmp_path, monkeypatch, **certificate):
        found = look(scope, **TLS)
    assert found.verdict is wanted, found
    assert reason in found.reason


def test_no_tls_server_is_unknown(verdict, settings, monkeypatch):
    with nobody_behind(monkeypatch, "pms_edge"):
        assert verdict("certificates").verdict is Verdict.UNKNOWN


def test_a_server_that_speaks_no_tls_is_unknown(scope, monkeypatch):
    monkeypatch.setattr("handover.readiness.network.TIMEOUT_SECONDS", 0.05)
    with silent() as (host, port):
        monkeypatch.setenv("AIRFLOW_CONN_PMS_EDGE", json.dumps({"conn_type": "http", "host": host, "port": port}))
        assert look(scope, **TLS).verdict is Verdict.UNKNOWN
