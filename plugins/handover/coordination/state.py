"""What the current deployment knows, kept in a ConfigMap beside the lock and changed by compare and swap."""

from __future__ import annotations

from collections.abc import Callable

from handover.coordination.lock import FencedOut
from handover.models.deployment import DeploymentState, FencingToken
from handover.ports.kube import Conflict, Json, Kube, NotFound

CONFIG_MAPS = "configmaps"
KEY = "state"


class NoDeployment(Exception):
    """Nothing was ever deployed with this plan."""


async def read(kube: Kube, name: str) -> DeploymentState | None:
    found = await kube.find(CONFIG_MAPS, name)
    return _parsed(found) if found else None


async def write(kube: Kube, name: str, state: DeploymentState) -> None:
    """Begins a new state; refuses to overwrite one of a newer generation with `FencedOut`."""
    while True:
        found = await kube.find(CONFIG_MAPS, name)
        body = _config_map(kube, name, state)
        try:
            if found is None:
                await kube.create(CONFIG_MAPS, body)
                return
            if (old := _parsed(found)).generation > state.generation:
                raise FencedOut(f"generation {state.generation} is over: {old.deployment} is at {old.generation}")
            body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            await kube.replace(CONFIG_MAPS, name, body)
            return
        except Conflict:
            continue


async def update(
    kube: Kube, name: str, token: FencingToken, change: Callable[[DeploymentState], DeploymentState]
) -> DeploymentState:
    """Changes the state of this ticket's deployment; ``change`` may be called more than once.

    Raises `FencedOut` when the state belongs to another generation by now.
    """
    while True:
        try:
            found = await kube.get(CONFIG_MAPS, name)
        except NotFound:
            raise NoDeployment(f"no ConfigMap {name} in {kube.namespace}: nothing was deployed yet") from None
        old = _parsed(found)
        if old.generation != token.generation:
            raise FencedOut(f"generation {token.generation} is over: {old.deployment} is at {old.generation}")
        if (new := change(old)) == old:
            return old
        body = _config_map(kube, name, new)
        body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        try:
            await kube.replace(CONFIG_MAPS, name, body)
            return new
        except Conflict:
            continue


def _parsed(config_map: Json) -> DeploymentState:
    return DeploymentState.model_validate_json(config_map["data"][KEY])


def _config_map(kube: Kube, name: str, state: DeploymentState) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": kube.namespace},
        "data": {KEY: state.model_dump_json(indent=1)},
    }
