"""Signs of life of whoever watches a deployment, in the lock's Lease: it is renewed for as long as somebody watches.

Each watch has an annotation of its own there, so that two of them (Airflow's triggerer, `python -m handover watch`) do
not overwrite each other.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from handover import clock
from handover.coordination.lock import LEASES, FencedOut, fresh, generation_of, timestamp
from handover.models.annotations import as_annotations, notes
from handover.models.heartbeat import Heartbeat
from handover.ports.kube import Conflict, KubeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handover.models.deployment import FencingToken
    from handover.ports.kube import Json, Kube

PREFIX = "watch-"
POLL_SECONDS = 0.5
STARTS_SECONDS = 60.0
"""A watch that Airflow was asked for is there by then, or nobody watches."""


async def beat(kube: Kube, name: str, token: FencingToken, heartbeat: Heartbeat) -> None:
    """Renews the lock. Raises `FencedOut` when it is not this generation's any more, and `KubeError`; one beat that is
    lost is no harm, the next one comes.
    """
    lease = await _lease(kube, name, token)
    annotations = lease["metadata"].setdefault("annotations", {})
    annotations |= as_annotations(**{PREFIX + heartbeat.watcher: heartbeat.model_dump_json()})
    lease["spec"]["renewTime"] = timestamp()
    try:
        await kube.replace(LEASES, name, lease)
    except Conflict:
        return


async def read(kube: Kube, name: str, token: FencingToken) -> list[Heartbeat]:
    """The last sign of life of each watch of this generation; what cannot be read is none. Raises like `beat`."""
    return beats_of(await _lease(kube, name, token))


def beats_of(lease: Json) -> list[Heartbeat]:
    """The same, of a lock that was read already."""
    beats = []
    for key, text in notes(lease).items():
        if key.startswith(PREFIX):
            try:
                beats.append(Heartbeat.model_validate_json(text))
            except ValidationError:
                continue
    return beats


async def until_armed(kube: Kube, name: str, token: FencingToken, silent_seconds: float) -> str:
    """Waits until somebody watches who has heard every source. Gives why nothing may be changed yet when that does not
    come, "" when it did. Raises `FencedOut`.

    :param silent_seconds: a sign of life that is older is none
    """
    deadline = clock.monotonic() + STARTS_SECONDS + silent_seconds
    while True:
        try:
            beats = await read(kube, name, token)
        except KubeError as error:
            problem = str(error)
        else:
            if any(one.armed for one in _alive(beats, silent_seconds)):
                return ""
            problem = "; ".join(f"{one.watcher}: {one.reason}" for one in beats) or "no watch has begun"
        if clock.monotonic() > deadline:
            return f"nobody watches: {problem}; nothing was changed"
        await asyncio.sleep(POLL_SECONDS)


def _alive(beats: Sequence[Heartbeat], silent_seconds: float) -> list[Heartbeat]:
    return [one for one in beats if clock.epoch() - one.at <= silent_seconds]


async def _lease(kube: Kube, name: str, token: FencingToken) -> Json:
    lease = await fresh(partial(kube.find, LEASES, name), generation_of, token.generation)
    if lease is None or generation_of(lease) != token.generation or not lease["spec"].get("holderIdentity"):
        raise FencedOut(f"generation {token.generation} is over: the lock {name} is somebody else's, or nobody's")
    return lease
