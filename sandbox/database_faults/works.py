"""The work that is disturbed: each with what has to be there before, and what has to be there afterwards.

``run`` is what a step of the product does, and what its next try does again.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from handover.adapters import sequences
from handover.database import alone, catalog, ledger, migrations, runner, storage
from handover.database.backfill import checked, checkpoint
from handover.database.backfill.pressure import Pressure, nobody_deploys
from handover.database.backfill.runner import Backfill
from handover.database.backfill.stages import Stages
from handover.database.dump import dump_to_s3
from handover.database.migrations import Bundle
from handover.database.rehearsal import contents
from handover.database.repair import repair
from handover.database.restore_test import prove_restore
from handover.database.reverse import reverse
from handover.models.deployment import BackupRecord
from handover.plan.data_migrations import DataMigrations
from handover.plan.migration import MigrationRules
from sandbox.database_faults.place import BUCKET, World

Watch = Callable[[Any], Any]
"""Given a client of S3, counts its requests."""
HISTORIES = (catalog.MIGRATIONS_TABLE, checkpoint.TABLE.rpartition(".")[2], "visits")
"""Tables whose rows tell when something was done; the last one is the clients'."""
LIMITS = runner.StatementLimits(lock_timeout=MigrationRules.model_fields["lock_timeout_seconds"].default)
"""As a plan that says nothing has them."""
RELEASE = Bundle.from_files({
    "m1/migration.sql": b"ALTER TABLE orders ADD COLUMN channel text NOT NULL DEFAULT 'web';"
                        b" UPDATE orders SET channel = 'desk' WHERE id <= 10",
    "m1/down.sql": b"ALTER TABLE orders DROP COLUMN channel",
    "m2/migration.sql": b"CREATE INDEX CONCURRENTLY orders_status ON orders (status)",
    "m2/down.sql": b"DROP INDEX CONCURRENTLY orders_status",
    "m3/migration.sql": b"CREATE TABLE notes (id int PRIMARY KEY, what text);"
                        b" INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 50) n",
    "m3/down.sql": b"DROP TABLE notes",
    "m4/migration.sql": b"ALTER TABLE days DETACH PARTITION days_25 CONCURRENTLY",
    "m4/down.sql": b"ALTER TABLE days ATTACH PARTITION days_25 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    "m5/migration.sql": b"DROP INDEX CONCURRENTLY lines_what",
    "m5/down.sql": b"CREATE INDEX CONCURRENTLY lines_what ON lines (what)",
})  # fmt: skip
DAMAGE = Bundle.from_files({
    "m1/migration.sql": b"ALTER TABLE customers ALTER COLUMN email DROP NOT NULL;"
                        b" UPDATE customers SET email = NULL WHERE id % 30 = 0;"
                        b" DELETE FROM lines WHERE order_id % 5 = 0;"
                        b" DELETE FROM orders WHERE id % 5 = 0; UPDATE orders SET price = price * 2 WHERE id % 100 = 1;"
                        b" DROP TABLE days",
    "m1/down.sql": b"UPDATE customers SET email = 'unknown-' || id WHERE email IS NULL;"
                   b" ALTER TABLE customers ALTER COLUMN email SET NOT NULL",
})  # fmt: skip
SLOW = Bundle.from_files({"m1/migration.sql": b"ALTER TABLE orders ADD COLUMN late int; SELECT pg_sleep(600)"})
MOVE: dict[str, Any] = {
    "role": "dba", "response_seconds": 60, "first_batch": 300, "max_batch": 300,
    "tables": {"totals": {
        "table": "orders", "columns": {"total": "pieces * price"}, "add": {"total": "numeric(14, 2)"},
        "required": True, "fires": ["touches"],
    }},
}  # fmt: skip
COUNTED = """
CREATE TABLE touched (id bigint);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO touched VALUES (NEW.id); RETURN NULL; END';
CREATE TRIGGER touches AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch()
"""
"""Each row that a batch fills is written down once more each time."""


@dataclass(frozen=True)
class Seen:
    """Schema and rows, and what is known beside them."""

    contents: contents.Contents
    facts: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """``begin``: what is there before, for all tries; ``told``: what there is to know afterwards; ``wrong``: what must
    never be left. ``theirs``: how the differences begin that clients make by what they write meanwhile.
    """

    name: str
    begin: Callable[[World], None]
    run: Callable[[World, Watch], None]
    told: Callable[[World], dict[str, Any]] = lambda _: {}
    wrong: Callable[[World], list[str]] = lambda _: []
    theirs: tuple[str, ...] = ()

    def seen(self, world: World) -> Seen:
        return Seen(contents.look(world.database, HISTORIES), self.told(world))


def nothing(_: World) -> None: ...


def history(world: World) -> dict[str, Any]:
    with world.database.connect() as connection:
        rows = ledger.rows(connection)
        return {
            "applied": migrations.applied(rows), "open": [row.name for row in rows if row.open],
            "half": [*catalog.invalid_indices(connection), *alone.detaching(connection)],
        }  # fmt: skip


def migrate(world: World, _: Watch) -> None:
    runner.apply(world.database, RELEASE, LIMITS)


def be_long(world: World) -> None:
    runner.apply(world.database, SLOW, LIMITS)


def go_back(world: World, _: Watch) -> None:
    reverse(world.database, RELEASE.scripts[::-1], LIMITS)


def move_data(world: World, _: Watch) -> None:
    for part in (expand, fill, cut_over, contract):
        part(world)


def _rules() -> DataMigrations:
    return DataMigrations.model_validate(MOVE)


def _stages(world: World) -> Stages:
    return Stages(world.database, _rules().lock_timeout_seconds, threading.Event().wait)


def _shape(world: World) -> Any:
    rules = _rules()
    with world.database.connect() as connection:
        return checked.shape(connection, "totals", rules.tables["totals"], rules.dense)


def expand(world: World) -> None:
    shape, stages = _shape(world), _stages(world)
    stages.add(_rules().tables["totals"])
    stages.expand(shape)


def fill(world: World) -> None:
    shape, rules = _shape(world), _rules()
    with world.database.connect() as connection:
        table = catalog.find(connection, shape.table)
    assert table is not None
    replicas = [world.replica] if world.replica else []
    pressure = Pressure(world.database, replicas, rules, table, nobody_deploys)
    with pressure.watching():
        while (ended := Backfill(world.database, shape, rules, pressure, "faults").run(600)).how == "held":
            pass  # as its step comes again, when the machine was too busy to tell the lag
    assert ended.how == "done", ended
    assert not _stages(world).compare(shape).wrong


def cut_over(world: World) -> None:
    shape, move = _shape(world), _rules().tables["totals"]
    _stages(world).cut_over(shape, required=move.required)


def contract(world: World) -> None:
    _stages(world).contract("totals", _rules().tables["totals"], 0)


def count_touches(world: World) -> None:
    with world.database.connect() as connection:
        connection.execute(COUNTED.encode())


def moved(world: World) -> dict[str, Any]:
    with world.database.connect() as connection:
        state = checkpoint.read(connection, "totals")
    assert state is not None
    return {"stage": state.stage, "filled": state.filled, "passed": state.passed, "at": state.checkpoint}


def back_up(world: World, watch: Watch) -> None:
    client, prefix = watch(world.client()), f"{world.database.name}/"
    storage.abort_leftovers(client, BUCKET, prefix, "_run.dump")
    dump_to_s3(world.database, client, BUCKET, f"{prefix}{uuid.uuid4().hex}_run.dump")


def not_whole(world: World) -> list[str]:
    """Whatever lies there has to be a whole backup, and one has to."""
    client, prefix = world.client(), f"{world.database.name}/"
    found = [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]
    wrong = [] if found else ["there is no backup"]
    if client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads"):
        wrong.append("an upload is open")
    for key in found:
        tags = {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(Bucket=BUCKET, Key=key)["TagSet"]}
        size = client.head_object(Bucket=BUCKET, Key=key)["ContentLength"]
        record = BackupRecord(
            uri=f"s3://{BUCKET}/{key}", size_bytes=size, sha256=tags.get(storage.SHA256, ""), taken_at=0
        )
        try:
            storage.prove(client, record)
        except storage.BackupDamaged as error:
            wrong.append(str(error))
    return wrong


def _record(world: World, work: str) -> BackupRecord:
    body = world.client().get_object(Bucket=BUCKET, Key=f"{work}/record.json")["Body"].read()
    return BackupRecord.model_validate_json(body)


def _keep_backup(world: World, work: str) -> None:
    client = world.client()
    record = dump_to_s3(world.database, client, BUCKET, f"{work}/{world.database.name}.dump").record
    client.put_object(Bucket=BUCKET, Key=f"{work}/record.json", Body=record.model_dump_json().encode())


def prove(world: World, watch: Watch) -> None:
    found = prove_restore(
        "restore_test", _record(world, "restore test"), watch(world.client()), server=world.elsewhere,
        production=world.database, scratch=f"{world.database.name}_test", timeout_seconds=600,
    )  # fmt: skip
    assert found.passed, found.reason


def left_elsewhere(world: World) -> list[str]:
    with world.elsewhere.connect() as connection:
        query = "SELECT datname FROM pg_database WHERE datname LIKE %s"
        found = connection.execute(query, (f"{world.database.name}\\_%",)).fetchall()
    return [f"the database {name} is left" for (name,) in found]


def damage(world: World) -> None:
    _keep_backup(world, "repair")
    runner.apply(world.database, DAMAGE, LIMITS)


def mend(world: World, watch: Watch) -> None:
    done = repair(
        world.database, world.elsewhere, f"{world.database.name}_point", watch(world.client()),
        _record(world, "repair"), DAMAGE.scripts, LIMITS,
    )  # fmt: skip
    assert not any(table.left for table in done), [table.text for table in done]


def mended(world: World) -> dict[str, Any]:
    with world.database.connect() as connection:
        given = {name: position.given for name, position in sequences.positions(connection).items()}
    return history(world) | {"numbers given": given}


def _then(*parts: Callable[[World], None]) -> Callable[[World], None]:
    def do(world: World) -> None:
        for part in parts:
            part(world)

    return do


def _alone(part: Callable[[World], None]) -> Callable[[World, Watch], None]:
    return lambda world, _: part(world)


WORKS = {
    work.name: work
    for work in (
        Work("migration", nothing, migrate, history),
        Work("reverse", lambda world: migrate(world, lambda client: client), go_back, history),
        Work("data migration", count_touches, move_data, moved),
        Work("backup", nothing, back_up, wrong=not_whole),
        Work("restore test", lambda world: _keep_backup(world, "restore test"), prove, wrong=left_elsewhere),
        Work("repair", damage, mend, mended, left_elsewhere),
    )
}
"""Each is killed at all of its steps."""
STAGES = {
    work.name: work
    for work in (
        Work("expand", count_touches, _alone(expand), theirs=("touched has ", "rows of orders hold ")),
        Work("batches", _then(count_touches, expand), _alone(fill), moved, theirs=("touched has ", "filled is ")),
        Work("cutover", _then(count_touches, expand, fill), _alone(cut_over), moved, theirs=("touched has ",)),
        Work(
            "contract", _then(count_touches, expand, fill, cut_over), _alone(contract), moved, theirs=("touched has ",)
        ),
    )
}
"""Parts of the data migration, so that somebody may be in the way of each."""
LONG = Work("long migration", nothing, _alone(be_long))
ALL = WORKS | STAGES | {LONG.name: LONG}
