"""The steps as Airflow runs them: the hotel's real schema, files in a folder and in S3, the lock of a twin."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover.adapters.postgres import Database
from handover.coordination import lock
from handover.models.deployment import FencingToken
from handover.plan.model import Plan
from handover.workflows.data.steps import ImportRows, NobodyDeploys, SeedDatabase
from sandbox.hotel import migrations
from sandbox.hotel.releases import BASE
from tests.support import steps
from tests.support.cluster import plan_with
from tests.support.postgres import PASSWORD, Servers

pytestmark = pytest.mark.sandbox
NOBODY = FencingToken(deployment="", generation=0, stable="", preview="")
HEADER = "reference,guest_email,room_number,check_in,check_out,total_amount\n"
GOOD = (
    HEADER
    + "OLD-1,test@example.com,101,2024-01-01,2024-01-03,160\nOLD-2,test@example.com,202,2024-01-01,2024-01-02,9\n"
)


def migrated(hotel: Database) -> None:
    with hotel.connect() as connection:
        migrations.apply(connection, BASE)


@pytest.fixture
def hotel(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection[Any]:
    """An empty database with the first release's schema, and the connections to it."""
    there = servers.copy("empty hotel", "owner", migrated)
    steps.connect_to(
        monkeypatch, "pms_primary", conn_type="postgres", login="owner", password=PASSWORD, host=there.host,
        port=there.port, schema=there.name,
    )  # fmt: skip
    for account in ("admin", "test"):
        steps.connect_to(monkeypatch, f"pms_seed_{account}", conn_type="generic", password="only for tests")
    return there.connect()


class Ran:
    """What a step said, and whether it passed."""

    def __init__(self, step: type, plan: Plan, params: dict[str, Any] | None = None) -> None:
        ti = steps.Ti(NOBODY, steps.release("image"))
        self.passed = True
        try:
            step(task_id="step", plan=plan).execute({"run_id": "run", "ti": ti, "params": params or {}})
        except AirflowFailException:
            self.passed = False
        evidence = ti.pushed["evidence"]
        self.reason, self.measured = evidence["reason"], {m["what"]: m["value"] for m in evidence["measurements"]}
        assert self.passed == (evidence["verdict"] == "pass")


@pytest.fixture
def local(tmp_path: Path) -> tuple[Plan, Path]:
    """A plan that reads from a folder, and the folder."""
    folder = tmp_path / "imports"
    folder.mkdir()
    return plan_with(tmp_path, data={"sources": [str(folder), "s3://backups/history/"]}), folder


def stays(hotel: psycopg.Connection[Any]) -> list[Any]:
    query = """
    SELECT reference, email, number, check_in::text, status
    FROM bookings JOIN users USING (user_id) JOIN rooms USING (room_id) WHERE reference LIKE 'OLD%' ORDER BY 1
    """
    return hotel.execute(query).fetchall()


def imported(plan: Plan, source: Path | str, **more: Any) -> Ran:
    return Ran(ImportRows, plan, {"what": "bookings", "source": str(source), **more})


@pytest.mark.plan(
    "Seed database with minimal data:", "Allow users to import their data:", "CSV import for historical bookings"
)
def test_a_new_database_is_seeded_and_gets_its_history(
    hotel: psycopg.Connection[Any], local: tuple[Plan, Path]
) -> None:
    plan, folder = local
    seeded = Ran(SeedDatabase, plan)
    assert (seeded.passed, seeded.reason) == (True, "users: 2 rows, rooms: 4 rows, bookings: 2 rows")
    assert Ran(SeedDatabase, plan).reason == "everything is there as configured; nothing was changed"

    (folder / "rows.csv").write_text(GOOD)
    first = imported(plan, folder / "rows.csv")
    assert (first.passed, first.reason) == (True, "2 of 2 rows are new in bookings, 0 were there")
    assert first.measured["imported"] == 2
    assert stays(hotel) == [
        ("OLD-1", "test@example.com", "101", "2024-01-01", "checked_out"),
        ("OLD-2", "test@example.com", "202", "2024-01-01", "checked_out"),
    ]
    assert imported(plan, folder / "rows.csv").reason == "0 of 2 rows are new in bookings, 2 were there"
    assert (folder / "rows.csv.rejects.csv").read_text() == "line,column,value,reason\n"
    assert (folder / "rows.csv.rejects.csv").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["rows.csv", "rows.csv.rejects.csv"]


def test_rejected_rows_are_in_the_reason_and_the_report(
    hotel: psycopg.Connection[Any], local: tuple[Plan, Path]
) -> None:
    plan, folder = local
    Ran(SeedDatabase, plan)
    file = folder / "rows.csv"
    file.write_text(
        GOOD + "OLD-3,test@example.com,999,2024-01-05,2024-01-05,1\nOLD-4,test@example.com,101,2024-1-5,,1\n"
    )
    ran = imported(plan, file)
    assert (ran.passed, ran.reason) == (
        False,
        f"nothing was imported: 2 of 4 rows were rejected; the whole report is {file}.rejects.csv. "
        "line 4, room_number is not a known number of rooms; line 5, check_in is not a date YYYY-MM-DD; "
        "line 5, check_out is missing",
    )
    assert stays(hotel) == []
    assert (folder / "rows.csv.rejects.csv").read_text().splitlines()[1] == (
        "4,room_number,999,is not a known number of rooms"
    )
    ran = imported(plan, file, on_rejects="skip")
    assert ran.passed
    assert ran.reason.startswith("2 of 4 rows are new in bookings, 0 were there, 2 were rejected (")
    assert [row[0] for row in stays(hotel)] == ["OLD-1", "OLD-2"]


def test_files_in_s3_are_read_and_their_report_is_beside_them(
    hotel: psycopg.Connection[Any], local: tuple[Plan, Path], s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"endpoint_url": s3_endpoint, "region_name": "eu-central-1"}
    steps.connect_to(monkeypatch, "pms_aws", conn_type="aws", login="test", password="test", extra=extra)
    plan, _ = local
    Ran(SeedDatabase, plan)
    bulk = "".join(f"OLD-{n:06},test@example.com,101,2024-01-01,2024-01-02,1.00\n" for n in range(25_000))
    s3.put_object(Bucket="backups", Key="history/rows.csv", Body=(HEADER + bulk).encode())  # several buffers long
    ran = imported(plan, "s3://backups/history/rows.csv")
    assert (ran.passed, ran.reason) == (True, "25000 of 25000 rows are new in bookings, 0 were there")
    report = s3.get_object(Bucket="backups", Key="history/rows.csv.rejects.csv")["Body"].read()
    assert report == b"line,column,value,reason\n"
    missing = imported(plan, "s3://backups/history/none.csv")
    assert missing.reason == "nothing was imported: there is no s3://backups/history/none.csv"
    outside = imported(plan, "s3://backups/other/rows.csv")
    assert outside.reason == (
        "nothing was imported: s3://backups/other/rows.csv is not below any of the plan's data.sources"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{folder}/none.csv", "{folder}/none.csv cannot be read: No such file or directory"),
        ("{folder}/sub", "{folder}/sub is not a file"),
        ("{folder}/pipe", "{folder}/pipe is not a file"),
        ("{folder}/../secret.csv", "{folder}/../secret.csv is not below any of the plan's data.sources"),
        ("{folder}/link.csv", "{folder}/link.csv is not below any of the plan's data.sources"),
        ("rows.csv", "'rows.csv' is neither s3://bucket/key nor an absolute path"),
    ],
)
def test_only_files_below_the_plans_sources_are_read(
    local: tuple[Plan, Path], hotel: psycopg.Connection[Any], source: str, said: str
) -> None:
    plan, folder = local
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    (folder.parent / "secret.csv").write_text(GOOD)
    (folder / "link.csv").symlink_to(folder.parent / "secret.csv")
    ran = imported(plan, source.format(folder=folder))
    assert (ran.passed, ran.reason) == (False, f"nothing was imported: {said.format(folder=folder)}")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"source": None}, "source: Field required"),
        ({"what": "guests"}, "what: 'guests' is none of bookings"),
        ({"on_rejects": "ignore"}, "on_rejects: Input should be 'abort' or 'skip'"),
    ],
)
def test_a_wrong_request_is_refused(local: tuple[Plan, Path], params: dict[str, Any], said: str) -> None:
    ran = Ran(ImportRows, local[0], {"what": "bookings", "source": "/x", **params})
    assert (ran.passed, ran.reason) == (False, f"nothing was imported: {said}")


def test_an_unreadable_file_never_reaches_the_database(
    local: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = local
    steps.connect_to(monkeypatch, "pms_primary", conn_type="postgres", host="127.0.0.1", port=1)  # nobody listens
    (folder / "rows.csv").write_bytes(HEADER.encode() + b"\xff\xfe")
    ran = imported(plan, folder / "rows.csv")
    assert ran.reason == (
        "nothing was imported: line 2 (byte 66): 0xff is not utf-8; say in which encoding the file is, or convert it"
    )


def test_data_waits_for_the_end_of_a_deployment(plan: Plan, in_cluster: Callable[..., Any]) -> None:
    assert Ran(NobodyDeploys, plan).reason == "no deployment is under way"
    in_cluster(lambda kube: lock.acquire(kube, plan.lock_name, "run-1", "Friday's fix"))
    ran = Ran(NobodyDeploys, plan)
    assert not ran.passed
    assert ran.reason.startswith("nothing was touched: run-1 since ")
    assert ran.reason.endswith("(Friday's fix) holds the lock; run this again when it has ended")
    held = in_cluster(lambda kube: kube.get(lock.LEASES, plan.lock_name))
    assert held["spec"]["leaseTransitions"] == 1
    in_cluster(lambda kube: lock.release(kube, plan.lock_name, 1))
    assert Ran(NobodyDeploys, plan).passed
