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
from sandbox.settings import Settings

BUCKET = "backup-bucket"
IMPORTS = "import-bucket"
"""Where files to be imported lie."""
LOG_GROUPS = ("/pms/staging", "/pms/production")
LOG_STREAM = "pms"
RETENTION_DAYS = 90
SECRET = "pms/production"


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
    for bucket in (BUCKET, IMPORTS):
        client(settings, "s3").create_bucket(Bucket=bucket)
    logs = client(settings, "logs")
    for group in LOG_GROUPS:
        logs.create_log_group(logGroupName=group)
        logs.put_retention_policy(logGroupName=group, retentionInDays=RETENTION_DAYS)
        logs.create_log_stream(logGroupName=group, logStreamName=LOG_STREAM)
        event = {"timestamp": int(time.time() * 1000), "message": "INFO started"}
        logs.put_log_events(logGroupName=group, logStreamName=LOG_STREAM, logEvents=[event])
    secret = {"JWT_SECRET": settings.secrets.jwt, "STRIPE_API_KEY": settings.secrets.service}
    client(settings, "secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps(secret))
