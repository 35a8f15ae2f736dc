"""S3, Secrets Manager and CloudWatch Logs, from moto's server."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from sandbox.processes import Process
from sandbox.services import ready
from sandbox.services.component import Component, Context
from sandbox.services.connections import REGION
from sandbox.services.databases import PRODUCTION, STAGING
from sandbox.settings import Settings

BUCKET = "backup-bucket"
REPORTS = "report-bucket"
IMPORTS = "import-bucket"
"""Where files to be imported lie."""
LOG_GROUPS = ("/pms/staging", "/pms/production")
LOG_STREAM = "pms"
RETENTION_DAYS = 90
SECRET, STAGING_SECRET = "pms/production", "pms/staging"
BACKUP_REGION = "eu-central-1"
"""Another one than production's, as the plan demands."""


class Aws(Component):
    """moto with what the plan expects to be there: buckets, log groups, a secret."""

    name = "aws"

    def start(self, context: Context) -> None:
        settings = context.settings
        argv = [
            sys.executable, "-m", "moto.server", "-H", settings.host(self.name), "-p", str(settings.port(self.name)),
        ]  # fmt: skip
        env = {**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 * 1024 * 1024)}
        process = context.own(Process(self.name, argv, settings.log(self.name), env=env))
        ready.until_answering(f"{settings.url(self.name)}/moto-api/data.json", process)
        furnish(settings)


def client(settings: Settings, service: str) -> Any:
    """A boto3 client for the sandbox."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        endpoint_url=settings.url("aws"),
        region_name=REGION,
        aws_access_key_id="sandbox",
        aws_secret_access_key=settings.secrets.service,
        config=Config(proxies={}),
    )


def furnish(settings: Settings) -> None:
    s3 = client(settings, "s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": BACKUP_REGION})
    for bucket in (REPORTS, IMPORTS):
        s3.create_bucket(Bucket=bucket)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=BUCKET, ServerSideEncryptionConfiguration={"Rules": [rule]})
    logs = client(settings, "logs")
    for group in LOG_GROUPS:
        logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=RETENTION_DAYS)
        logs.create_log_stream(logGroupName=group, logStreamName=LOG_STREAM)
        event = {"timestamp": int(time.time() * 1000), "message": "INFO started"}
        logs.put_log_events(logGroupName=group, logStreamName=LOG_STREAM, logEvents=[event])
    vault = client(settings, "secretsmanager")
    for name, values in secrets(settings).items():
        vault.create_secret(Name=name, SecretString=json.dumps(values))


def secrets(settings: Settings) -> dict[str, dict[str, str]]:
    """What lies in Secrets Manager: name to its keys and values."""
    known, password = settings.secrets, settings.secrets.pms
    keys = ("STRIPE_API_KEY", "OPENAI_API_KEY", "SENDGRID_API_KEY", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET")
    production = settings.dsn("primary", PRODUCTION, "pms", password)
    return {
        SECRET: {"DATABASE_URL": production, "JWT_SECRET": known.jwt, **dict.fromkeys(keys, known.service)},
        STAGING_SECRET: {
            "DATABASE_URL": settings.dsn("metadata", STAGING, "pms", password), "JWT_SECRET": known.staging_jwt,
        },
    }  # fmt: skip
