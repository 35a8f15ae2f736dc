"""Does work in processes that may be killed: ``python -m sandbox.database_faults.killed``.

Each line of its input asks for one try, as JSON: the work, its world, the numbers of the steps at which it gets a
signal, and which. It answers with two lines: the number of the process; and when it has ended, the signal or code that
it ended with, its steps, and what it failed with. It is a process of its own with one thread, which has all that is
needed imported, so that each try is a fork of it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from sandbox.database_faults.place import World
from sandbox.database_faults.points import Points
from sandbox.database_faults.works import ALL


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the work prints is no answer

    def answer(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    for line in sys.stdin:
        answer(_tried(json.loads(line), answer))


def _tried(asked: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work(asked, writing)
    os.close(writing)
    answer({"process": child})
    with os.fdopen(reading) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return {"ended": os.waitstatus_to_exitcode(status), **(json.loads(text) if text else {})}


def _work(asked: dict[str, Any], writing: int) -> None:
    """Never returns."""
    points, failure = Points(asked["at"], asked["signal"]), ""
    try:
        points.watch()
        ALL[asked["work"]].run(World.heard(asked["world"]), points.watch_s3)
    except BaseException:
        failure = traceback.format_exc()
    with os.fdopen(writing, "w") as answer:
        json.dump({"steps": points.seen, "failure": failure}, answer)
    os._exit(1 if failure else 0)


if __name__ == "__main__":
    main()
