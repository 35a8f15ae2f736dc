"""What a step leaves is sealed by it: anybody with edit rights may write XComs; the key is held where steps run alone.

The key is ``HANDOVER_EVIDENCE_KEY``, in the environment of whatever runs steps: no role of Airflow can read or change
it. Two keys with a comma between them: the first one seals, both are believed, so that a key can be replaced while
deployments are under way.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

from handover.models.json_text import decoded

log = logging.getLogger(__name__)
VARIABLE = "HANDOVER_EVIDENCE_KEY"
MIN_KEY = 32
"""Characters of a key: what is shorter may be guessed, and counts as none."""
SEAL = "_seal"
"""Behind the XCom's key: where the seal of it lies."""


class NotSealed(ValueError):
    """Something lies there, and the step that it is said to be of did not make it."""


def key_problem() -> str:
    """Why nothing could be sealed here, "" when it could."""
    return "" if _keys() else f"{VARIABLE} is not set, or shorter than {MIN_KEY} characters"


def leave(ti: Any, key: str, value: Any) -> None:
    """Leaves an XCom with its seal. Without a key it is left all the same, and then nobody believes it: a rollback has
    to go on.
    """
    ti.xcom_push(key=key, value=value)
    if keys := _keys():
        ti.xcom_push(key=key + SEAL, value=_seal(keys[0], _place(ti, getattr(ti, "task_id", "")), key, value))
    else:
        log.warning("%s is left without a seal: %s", key, key_problem())


def left(ti: Any, task_id: str, key: str) -> Any:
    """What this task of the run of ``ti`` has left under ``key``, None for nothing. Raises `NotSealed`, also for what
    was made by another task or run.
    """
    value = ti.xcom_pull(task_ids=task_id, key=key)
    if value is None:
        return None
    check(_place(ti, task_id), key, value, ti.xcom_pull(task_ids=task_id, key=key + SEAL))
    return value


def check(place: Sequence[str], key: str, value: Any, seal: Any) -> None:
    """Raises `NotSealed` unless this is the seal of what a step has left.

    :param place: ids of its DAG, run and task
    """
    given = str(seal or "").encode("ascii", "replace").decode()
    if not any(hmac.compare_digest(_seal(one, place, key, value), given) for one in _keys()):
        raise NotSealed(f"{key} of {place[-1]} was not made by its step" if _keys() else key_problem())


def _place(ti: Any, task_id: str) -> list[str]:
    return [getattr(ti, "dag_id", ""), getattr(ti, "run_id", ""), task_id]


def _seal(key: str, place: Sequence[str], name: str, value: Any) -> str:
    said = json.dumps([*place, name, _plain(value)], sort_keys=True)
    return hmac.new(key.encode(), said.encode(), hashlib.sha256).hexdigest()


def _plain(value: Any) -> Any:
    """With numbers as they are when a database gives them back: 1 for 1.0, and -0.0 is 0."""

    def number(text: str) -> float:
        return float(text) + 0.0

    return decoded(json.dumps(value), parse_int=number, parse_float=number)


def _keys() -> list[str]:
    given = os.environ.get(VARIABLE, "").split(",")
    return [one for key in given if len(one := key.strip()) >= MIN_KEY]
