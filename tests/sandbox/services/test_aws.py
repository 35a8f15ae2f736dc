"""The cloud services hold what the plan expects to find."""

from __future__ import annotations

import json

from sandbox.services.aws import BUCKET, client


def test_the_bucket_takes_an_upload_in_parts_and_gives_it_back(settings):
    s3 = client(settings, "s3")
    part = b"x" * (5 * 1024 * 1024)
    key = "production/backup.dump"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    names = {"Bucket": BUCKET, "Key": key, "UploadId": upload}
    done = [
        {"PartNumber": number, "ETag": s3.upload_part(**names, PartNumber=number, Body=body)["ETag"]}
        for number, body in ((1, part), (2, b"end"))
    ]
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": done})
    assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == len(part) + 3
    assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == part + b"end"


def test_logs_are_kept_for_90_days(settings):
    groups = client(settings, "logs").describe_log_groups(logGroupNamePrefix="/pms/")["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"] for group in groups} == {
        "/pms/staging": 90, "/pms/production": 90,
    }  # fmt: skip


def test_logs_can_be_searched_for_errors(settings):
    logs = client(settings, "logs")
    found = logs.filter_log_events(logGroupName="/pms/staging", filterPattern="ERROR")["events"]
    assert found == []


def test_the_secret_keeps_the_rule_of_the_plan(settings):
    value = client(settings, "secretsmanager").get_secret_value(SecretId="pms/production")["SecretString"]
    assert len(json.loads(value)["JWT_SECRET"]) > 64
