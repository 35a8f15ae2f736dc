"""History is imported by Airflow itself, from S3 into the production database; nothing is seeded over rows."""

from __future__ import annotations

import boto3
import psycopg
import pytest

pytestmark = [pytest.mark.run, pytest.mark.slow]
HEADER = "reference,guest_email,room_number,check_in,check_out,total_amount\n"
ROW = "OLD-{n:04},test@example.com,101,2024-01-01,2024-01-03,160.00\n"
SECONDS = 120


@pytest.fixture
def s3(endpoints):
    return boto3.client(
        "s3", endpoint_url=endpoints["s3"], region_name="us-east-1", aws_access_key_id="test",
        aws_secret_access_key="test",
    )  # fmt: skip


def put(s3, name: str, text: str) -> str:
    s3.put_object(Bucket="import-bucket", Key=f"historical/{name}", Body=text.encode())
    return f"s3://import-bucket/historical/{name}"


@pytest.fixture
def run(team):
    def go(dag_id: str, task: str, **params: str) -> tuple[str, str]:
        run_id = team.admin.trigger(dag_id, params)
        state = team.admin.wait_for_run(dag_id, run_id, SECONDS)
        return state, team.admin.xcom(dag_id, run_id, task, "evidence")["reason"]

    return go


def test_history_is_imported_once(run, s3, endpoints):
    source = put(s3, "rows.csv", HEADER + "".join(ROW.format(n=n) for n in range(200)))
    asked = {"what": "bookings", "source": source}
    assert run("pms_data_import", "import_rows", **asked) == (
        "success", "200 of 200 rows are new in bookings, 0 were there",
    )  # fmt: skip
    assert run("pms_data_import", "import_rows", **asked) == (
        "success", "0 of 200 rows are new in bookings, 200 were there",
    )  # fmt: skip
    with psycopg.connect(endpoints["postgres"]["primary"]) as primary:
        count = primary.execute("SELECT count(*) FROM bookings WHERE reference LIKE 'OLD-%'").fetchone()
    assert count == (200,)


def test_bad_rows_fail_the_run_and_are_reported(run, s3):
    source = put(s3, "bad.csv", HEADER + "NEW-1,nobody@example.com,101,2024-01-01,2024-01-03,1\n")
    state, reason = run("pms_data_import", "import_rows", what="bookings", source=source)
    assert state == "failed"
    assert "1 of 1 rows were rejected" in reason
    assert "line 2, guest_email is not a known email of users" in reason
    report = s3.get_object(Bucket="import-bucket", Key="historical/bad.csv.rejects.csv")["Body"].read()
    assert b"2,guest_email,nobody@example.com,is not a known email of users" in report


def test_a_database_with_rows_is_not_seeded(run):
    state, reason = run("pms_seed", "seed")
    assert state == "failed"
    assert reason.startswith("nothing was changed: only an empty database is seeded, and this one has rows (")
