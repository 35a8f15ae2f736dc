"""Backups in which one bit is another one, or whose end is missing: none of them may reach a database."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from handover.database import catalog, storage
from handover.database.dump import dump_to_s3
from handover.database.restore import RestoreFailed, restore, scratch_database
from handover.models.deployment import BackupRecord
from sandbox.database_faults import found
from sandbox.database_faults.found import Found
from sandbox.database_faults.place import BUCKET, Place, World

COMPRESSIONS = ("auto", "gzip", "none")
Change = Callable[[bytes, int], bytes]


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


def cut(body: bytes, at: int) -> bytes:
    return body[:at]


def lengthened(body: bytes, at: int) -> bytes:
    return body + body[at : at + 1]


CHANGES: dict[str, Change] = {
    "a bit is flipped": flipped,
    "its end is missing": cut,
    "something follows it": lengthened,
}


def damaged(
    place: Place, tries: int = 40, compressions: Sequence[str] = COMPRESSIONS,
    say: Callable[[str], None] = lambda _: None,
) -> list[Found]:  # fmt: skip
    """``tries``: of each change of each kind of backup, spread over all of it, first and last byte included."""
    told = []
    with place.world() as world:
        for compression in compressions:
            say(f"damaged backups: {compression}")
            client, key = world.client(), f"{world.database.name}/{compression}.dump"
            record = dump_to_s3(world.database, client, BUCKET, key, compression=compression).record
            whole = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for what, change in CHANGES.items():
                wrongs = _refused(world, client, record, [change(whole, at) for at in _places(len(whole), tries)])
                told.append(
                    found.judged(f"backup: {what}", f"restore, {compression}", "refused before any SQL", wrongs)
                )
    return told


def _places(size: int, tries: int) -> list[int]:
    drawn = random.Random(size)
    return [0, size - 1, *(drawn.randrange(size) for _ in range(max(0, tries - 2)))]


def _refused(world: World, client: Any, record: BackupRecord, bodies: Sequence[bytes]) -> list[list[str]]:
    wrongs = []
    key = f"{world.database.name}/changed.dump"
    changed = record.model_copy(update={"uri": f"s3://{BUCKET}/{key}"})
    with scratch_database(world.elsewhere, f"{world.database.name}_damaged") as target:
        for number, body in enumerate(bodies):
            client.put_object(Bucket=BUCKET, Key=key, Body=body)
            try:
                restore(client, changed, target)
                wrongs.append([f"{number} was restored"])
            except storage.BackupDamaged:
                wrongs.append([])
            except RestoreFailed as error:
                wrongs.append([f"{number} reached pg_restore: {error}"])
        with target.connect() as connection:
            if made := catalog.tables(connection):
                wrongs.append([f"{', '.join(made)} were made"])
    return wrongs
