"""AWS clients behind an Airflow connection."""

from __future__ import annotations

from typing import Any


def client(connection: str, service: str) -> Any:
    """A boto3 client that gives up within seconds: a check that waits tells nothing."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})
    return AwsBaseHook(aws_conn_id=connection, client_type=service, config=config).get_conn()
