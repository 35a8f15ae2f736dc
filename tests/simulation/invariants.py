"""What must hold at every moment, and what must hold when all is quiet; each is stated once, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from handover.adapters.service_router import ServiceRouter
from handover.models.annotations import notes
from handover.models.deployment import DeploymentState, Status
from handover.ports.kube import Json
from handover.ports.router import Route, Stage
from tests.twins.kube import DEPLOYMENTS, SERVICES, Key
from tests.twins.service import TwinService

SOMEBODY_SERVES = "at no moment does nobody serve"
NEVER_FORWARD_AGAIN = "once a deployment went back it never goes forward"
HIGHER_WINS = "a lower generation changes nothing after a higher one began"
ONE_SERVES = "when all is quiet exactly one colour serves"
AS_RECORDED = "when all is quiet the colour that serves is the one that the record says"
LOCK = "when all is quiet the lock is free exactly when the deployment ended well"
NOT_SCALED_DOWN = "nothing that serves is scaled down"
FACTS = "what the record calls a fact has happened"


@dataclass(frozen=True)
class Violation:
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


@dataclass
class Witness:
    """Hears of every change that the cluster keeps. ``people``: selectors that a person set by hand, which no code of
    ours can answer for.
    """

    service: TwinService
    violations: list[Violation] = field(default_factory=list)
    aborted: set[str] = field(default_factory=set)
    exposed: set[str] = field(default_factory=set)
    """Deployments whose preview colour has met clients."""
    back_on: dict[str, str] = field(default_factory=dict)
    """Deployment to the colour that traffic was moved back to."""
    finalised: set[str] = field(default_factory=set)
    """Deployments that ended well; what moves traffic back from then on is a rollback of one that had succeeded."""
    by_hand: bool = False
    tell: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        self._router = ServiceRouter(self.service.kube(), self.service.plan.cluster, self.service.plan.cluster.service)
        self.service.cluster.on_write = self.heard

    def heard(self, key: Key, old: Json | None, new: Json) -> None:
        if self.tell:
            self.tell(f"{'':9} {key[2]} of {key[0]}: {_in_short(new)}")
        if key[0] == SERVICES and key[2] == self.service.plan.cluster.service:
            self._service(old, new)
        elif key[0] == SERVICES:
            self._older(_generation(old), _generation(new), f"{key[2]}")
        elif key[0] == DEPLOYMENTS:
            self._deployment(key, old, new)
        elif key[0] == "configmaps":
            self._older(_generation(old), _generation(new), "state")
            if state := _state(new):
                self._facts(state)
        elif key[0].endswith("/leases") and old is not None:
            self._older(old["spec"]["leaseTransitions"], new["spec"]["leaseTransitions"], "lock")

    def _service(self, old: Json | None, new: Json) -> None:
        before, now = self._router._route(old) if old else None, self._router._route(new)
        self._older(before.generation if before else 0, now.generation, "route")
        moved = before is None or before.weights != now.weights
        if moved and now.deployment in self.aborted and now.preview in now.serving and not self.by_hand:
            self._broken(NEVER_FORWARD_AGAIN, str(now))
        if now.stage is Stage.ABORTED and now.colour == now.stable:
            self.aborted.add(now.deployment)
            self.back_on[now.deployment] = now.stable
        if now.stage is not None and now.preview in now.serving:
            self.exposed.add(now.deployment)
        if now.stage is Stage.FINALISED and now.colour == now.preview:
            self.finalised.add(now.deployment)
        self._somebody_serves(str(now))

    def _deployment(self, key: Key, old: Json | None, new: Json) -> None:
        self._older(_generation(old), _generation(new), key[2])
        colour = new["spec"]["selector"]["matchLabels"][self.service.plan.cluster.colour_key]
        if not new["spec"].get("replicas", 1) and colour in self.route().serving:
            self._broken(NOT_SCALED_DOWN, f"{key[2]} while {self.route()}")
        self._somebody_serves(f"{key[2]} has {new['spec'].get('replicas', 1)} replicas")

    def _somebody_serves(self, when: str) -> None:
        """Who patches by hand without comparing may point at a colour that goes to sleep at that moment."""
        if not self.service.serving() and not self.by_hand:
            self._broken(SOMEBODY_SERVES, when)

    def _facts(self, state: DeploymentState) -> None:
        route = self.route()
        if state.switched_at is not None and state.deployment not in self.exposed:
            self._broken(FACTS, f"switched_at of {state.deployment}, whose version no client has met")
        if state.status is Status.ROLLED_BACK and route.colour != state.stable and not self.by_hand:
            self._broken(FACTS, f"{state.deployment} is rolled back, but {route}")
        if state.status is Status.SUCCEEDED and state.deployment not in self.finalised:
            self._broken(FACTS, f"{state.deployment} succeeded, but {route}")
        for incident in state.incidents:
            if any(line.what.startswith("traffic is back on") for line in incident.timeline) and (
                state.deployment not in self.back_on
            ):
                self._broken(FACTS, f"an incident of {state.deployment} says that traffic is back, and it is not")

    def _older(self, before: int, now: int, what: str) -> None:
        if now < before:
            self._broken(HIGHER_WINS, f"{what}: {now} after {before}")

    def _broken(self, invariant: str, what: str) -> None:
        self.violations.append(Violation(invariant, what))

    # --- when all is quiet

    def route(self) -> Route:
        cluster = self.service.plan.cluster
        return self._router._route(self.service.cluster.objects[SERVICES, self.service.namespace, cluster.service])

    def at_rest(self, to_the_end: bool = True) -> list[Violation]:
        """What is broken, now that nobody does anything any more.

        :param to_the_end: whether somebody was there to end what was begun
        """
        self._somebody_serves("at rest")
        if not to_the_end:
            if self.route().colour is None and not self.by_hand:
                self._broken(ONE_SERVES, str(self.route()))
            return self.violations
        objects, plan = self.service.cluster.objects, self.service.plan
        lease = objects.get(("coordination.k8s.io/v1/leases", self.service.namespace, plan.lock_name))
        known = objects.get(("configmaps", self.service.namespace, plan.lock_name))
        gone = notes(known).get("given-up", "").split() if known else []
        held = bool(lease and lease["spec"].get("holderIdentity") not in ("", *gone))
        state = _state(known) if known else None
        if state is None:
            if held:
                self._broken(LOCK, "held, and nothing was ever deployed")
            return self.violations
        route = self.route()
        ended_well = state.over
        if held == ended_well:
            self._broken(LOCK, f"{'held' if held else 'free'}, and {state.deployment} is {state.status}")
        if self.by_hand or not ended_well or state.status is Status.GIVEN_UP:
            return self.violations
        if route.colour is None:
            self._broken(ONE_SERVES, str(route))
        recorded = state.preview if state.status is Status.SUCCEEDED else state.stable
        if route.serving != {recorded} and state.deployment not in self.aborted:
            self._broken(AS_RECORDED, f"{route}, and {state.deployment} is {state.status}")
        return self.violations


def _in_short(obj: Json) -> str:
    state, spec = _state(obj), obj.get("spec", {})
    said = f"{state.deployment} {state.status}" if state else ""
    found = {name: spec[name] for name in ("selector", "replicas", "holderIdentity") if name in spec}
    return f"{said} {found} {notes(obj)}"


def _generation(obj: Json | None) -> int:
    return int(notes(obj).get("generation", "0")) if obj else 0


def _state(config_map: Json) -> DeploymentState | None:
    text = (config_map.get("data") or {}).get("state")
    return DeploymentState.model_validate_json(text) if text else None
