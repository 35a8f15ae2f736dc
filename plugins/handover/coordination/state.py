"""What the current deployment knows, kept in a ConfigMap beside the lock and changed by compare and swap."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pydantic import ValidationError

from handover.coordination.lock import FencedOut, fresh
from handover.models.annotations import as_annotations, notes
from handover.models.deployment import DeploymentState, FencingToken, Status
from handover.ports.kube import Conflict, Json, Kube, KubeError, NotFound

CONFIG_MAPS = "configmaps"
KEY = "state"
KEPT = 10
"""So many deployments that were given up are remembered: a process of one may have been held up for long."""


class NoDeployment(Exception):
    """Nothing was ever deployed with this plan."""


class Damaged(KubeError):
    """What is known of the deployment cannot be read: somebody has edited it, or a newer version has written it."""


async def read(kube: Kube, name: str) -> DeploymentState | None:
    """Raises `Damaged`."""
    found = await kube.find(CONFIG_MAPS, name)
    return _parsed(found) if found else None


async def given_up(kube: Kube, name: str) -> frozenset[str]:
    """The last deployments that were given up; what they hold of the lock is nobody's."""
    return frozenset(_given_up(await kube.find(CONFIG_MAPS, name)))


async def ended(kube: Kube, name: str, deployment: str) -> Status | None:
    """How this deployment ended, if the cluster knows it and it did."""
    found = await kube.find(CONFIG_MAPS, name)
    if deployment in _given_up(found):
        return Status.GIVEN_UP
    known = _parsed(found) if found else None
    mine = known is not None and known.deployment == deployment and known.status is not Status.DEPLOYING
    return known.status if known and mine else None


async def write(kube: Kube, name: str, state: DeploymentState) -> None:
    """Begins a new state. Raises `FencedOut` when a newer generation has begun, or this one was given up."""

    def begin(old: DeploymentState | None, generation: int) -> DeploymentState:
        ours = old is not None and old.deployment == state.deployment and not old.over
        if generation > state.generation or (generation == state.generation and not ours):
            raise FencedOut(f"generation {state.generation} is over: {old.deployment if old else 'it'} was given up")
        return state

    await _swap(kube, name, state.generation, begin)


async def forbid(kube: Kube, name: str, deployment: str) -> None:
    """Nobody opens this deployment any more, which never was opened, not even a process that was held up."""
    await _swap(kube, name, 0, lambda old, _: old, given_up=deployment)


async def give_up(kube: Kube, name: str, deployment: str, generation: int) -> None:
    """The same, by whoever holds its lock: it is over. What the deployment before it knew stays known."""

    def given_up(old: DeploymentState | None, known: int) -> DeploymentState | None:
        if old is None:
            return None
        begun = old.deployment == deployment and old.status is Status.DEPLOYING
        change = {"status": Status.GIVEN_UP} if begun else {}
        return old.model_copy(update={**change, "generation": max(known, generation)})

    await _swap(kube, name, generation, given_up, given_up=deployment)


async def update(
    kube: Kube, name: str, token: FencingToken, change: Callable[[DeploymentState], DeploymentState]
) -> DeploymentState:
    """Changes the state of this token's deployment; ``change`` may be called more than once.

    Raises `FencedOut` when the state belongs to another generation by now, or to a deployment that is over: then only a
    newer generation may change it.
    """
    while True:
        try:
            found = await fresh(partial(kube.get, CONFIG_MAPS, name), _generation, token.generation)
        except NotFound:
            found = None
        if found is None or (old := _parsed(found)) is None:
            raise NoDeployment(f"no state in ConfigMap {name} of {kube.namespace}: nothing was deployed yet") from None
        if old.generation != token.generation:
            raise FencedOut(f"generation {token.generation} is over: {old.deployment} is at {old.generation}")
        if (new := change(old)) == old:
            return old
        if old.over and new.generation == old.generation:
            raise FencedOut(f"{old.deployment} has ended: it is {old.status}; nothing was changed")
        try:
            await kube.replace(CONFIG_MAPS, name, _config_map(kube, name, new, new.generation, found))
            return new
        except Conflict:
            continue


async def _swap(
    kube: Kube, name: str, generation: int,
    decide: Callable[[DeploymentState | None, int], DeploymentState | None], given_up: str = "",
) -> None:  # fmt: skip
    """Writes what ``decide`` makes of the state and the generation that are there, until nobody came in between."""
    while True:
        found = await kube.find(CONFIG_MAPS, name)
        known = _generation(found) if found else 0
        new = decide(_parsed(found) if found else None, known)
        body = _config_map(kube, name, new, max(generation, known), found, given_up)
        try:
            if found is None:
                await kube.create(CONFIG_MAPS, body)
            else:
                await kube.replace(CONFIG_MAPS, name, body)
            return
        except Conflict:
            continue


def _given_up(config_map: Json | None) -> list[str]:
    return notes(config_map).get("given-up", "").split() if config_map else []


def _generation(config_map: Json) -> int:
    state = _parsed(config_map)
    said = notes(config_map).get("generation", "0")
    if not said.isdecimal():
        raise _damaged(config_map, "the annotation of its generation is no number")
    return max(int(said), state.generation if state else 0)


def _parsed(config_map: Json) -> DeploymentState | None:
    text = (config_map.get("data") or {}).get(KEY)
    try:
        return DeploymentState.model_validate_json(text) if text else None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise _damaged(config_map, ": ".join([*map(str, first["loc"]), first["msg"]])) from None


def _damaged(config_map: Json, why: str) -> Damaged:
    where = f"ConfigMap {config_map['metadata']['name']} of {config_map['metadata'].get('namespace', 'its namespace')}"
    return Damaged(0, f"the deployment's state in {where} cannot be read ({why}): repair it with kubectl edit")


def _config_map(
    kube: Kube, name: str, state: DeploymentState | None, generation: int, read: Json | None, given_up: str = ""
) -> Json:
    """``read``: the one that it takes the place of; ``given_up``: a deployment that is given up with it."""
    version = {"resourceVersion": read["metadata"]["resourceVersion"]} if read else {}
    gone = list(dict.fromkeys([*_given_up(read), *([given_up] if given_up else [])]))[-KEPT:]
    said = as_annotations(generation=str(generation), **({"given_up": " ".join(gone)} if gone else {}))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": kube.namespace, "annotations": said, **version},
        "data": {KEY: state.model_dump_json(indent=1)} if state else {},
    }
