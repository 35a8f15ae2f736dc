"""People who read and write meanwhile, and how long the longest of them had to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from handover.adapters.postgres import Database

PAUSE_SECONDS = 0.005
STATEMENTS = (
    "SELECT count(*) FROM orders WHERE customer_id = 7", "UPDATE orders SET status = status WHERE id = 8",
    "SELECT name FROM customers WHERE id = 9", "UPDATE customers SET name = name WHERE id = 11",
)  # fmt: skip
"""Each is a client of its own. They change no value, and no row that is damaged."""
OTHERS = ("SELECT count(*) FROM visits",) * 2
"""Clients of a table that nobody changes: what they wait for is this machine."""


@dataclass
class Waited:
    """The longest statement of all clients, and what it was; how many there were. ``noise_ms``: the longest one of
    those that nobody is in the way of.
    """

    longest_ms: float = 0.0
    noise_ms: float = 0.0
    statement: str = ""
    statements: int = 0
    failures: tuple[str, ...] = ()

    def add(self, seconds: float, statement: str) -> None:
        self.statements += 1
        if statement in OTHERS:
            self.noise_ms = max(self.noise_ms, seconds * 1000)
        elif seconds * 1000 > self.longest_ms:
            self.longest_ms, self.statement = seconds * 1000, statement


@contextmanager
def clients(database: Database) -> Iterator[Waited]:
    """While the body runs; a statement that fails is remembered, and its client goes on."""
    waited, over, one = Waited(), threading.Event(), threading.Lock()

    def go_on(statement: str) -> None:
        with database.connect() as connection:
            while not over.is_set():
                begin = time.monotonic()
                try:
                    connection.execute(statement.encode())
                except psycopg.Error as error:
                    with one:
                        waited.failures = (*waited.failures, f"{statement}: {error}")
                    if connection.closed:
                        return
                with one:
                    waited.add(time.monotonic() - begin, statement)
                over.wait(PAUSE_SECONDS)

    threads = [threading.Thread(target=go_on, args=(statement,), daemon=True) for statement in (*STATEMENTS, *OTHERS)]
    for thread in threads:
        thread.start()
    try:
        yield waited
    finally:
        over.set()
        for thread in threads:
            thread.join()
