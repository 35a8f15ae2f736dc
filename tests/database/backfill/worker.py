"""A worker in a process of its own, to be killed: ``python -m tests.database.backfill.worker URI``."""

from __future__ import annotations

import sys

from handover.adapters.postgres import Database
from tests.database.backfill.conftest import TOTAL, Bench


def main(uri: str) -> None:
    bench = Bench(Database.from_uri(uri), TOTAL, first_batch=5, max_batch=5)
    print("begins", flush=True)
    bench.backfill(bench.shape(), owner="to be killed")


if __name__ == "__main__":
    main(sys.argv[1])
