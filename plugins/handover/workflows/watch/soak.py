"""Soaks: the version has to be seen clean for so long in one piece, by somebody who is alive (plan 2.2 step 7, 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.coordination import heartbeat
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.models.deployment import FencingToken
from handover.models.evidence import Evidence, Verdict, failed, passed
from handover.models.heartbeat import Heartbeat
from handover.models.incident import given_up, pending
from handover.workload.triggers import ClusterTrigger

if TYPE_CHECKING:
    from handover.ports.kube import Kube


def soaked(
    check: str, beats: Sequence[Heartbeat], now: float, *, since: float, seconds: float, silent_since: float,
    silent_seconds: float,
) -> Evidence | None:  # fmt: skip
    """The verdict, or None while the soak goes on. Pure; all times are seconds since the epoch.

    A release that was clean for long enough but cannot be judged (too few requests) has ``silent_seconds`` more.

    :param since: what was seen before does not count
    :param silent_since: since when somebody listens; a silence is counted from then at the earliest
    """
    heard = max([silent_since, *(one.at for one in beats)])
    if now - heard > silent_seconds:
        return failed(check, f"nobody watches: no sign of life for {now - heard:.0f} s")
    alive = [one for one in beats if now - one.at <= silent_seconds]
    best = max(alive, key=lambda one: (one.verdict is Verdict.PASS, one.clean_for(since)), default=None)
    if best is None or best.clean_for(since) < seconds:
        return None
    if best.verdict is Verdict.PASS:
        reason = f"clean for {best.clean_for(since):.0f} s in one piece; since the cutover {best.reason}"
        return passed(check, reason, *best.measurements)
    if best.clean_for(since) < seconds + silent_seconds:
        return None
    return Evidence(check=check, verdict=best.verdict, reason=best.reason, measurements=best.measurements)


class SoakTrigger(ClusterTrigger):
    """Waits for a soak; the event is an `Evidence`.

    :param lock: the name of the lock, whose generation has to stay that of ``token``
    :param since, seconds, silent_seconds: as `soaked` has them
    :param until_incident: an incident that waits for an answer ends the soak, with a pass: what comes next asks
    :param too_late: the reason when the deadline comes first
    """

    def __init__(
        self, *, check: str, lock: str, token: dict[str, Any], since: float, seconds: float, silent_seconds: float,
        until_incident: bool = False, too_late: str = "it was not clean for long enough", **common: Any,
    ) -> None:  # fmt: skip
        super().__init__(**common)
        self.check, self.lock, self.token, self.since, self.seconds = check, lock, token, since, seconds
        self.silent_seconds, self.until_incident, self.too_late = silent_seconds, until_incident, too_late
        self._listens_since = 0.0
        self._last = "no sign of life was read"

    def arguments(self) -> dict[str, Any]:
        own = ("check", "lock", "token", "since", "seconds", "silent_seconds", "until_incident", "too_late")
        return super().arguments() | {name: getattr(self, name) for name in own}

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        now = clock.epoch()
        self._listens_since = self._listens_since or now
        try:
            beats = await heartbeat.read(kube, self.lock, FencingToken.model_validate(self.token))
        except FencedOut as error:
            return failed(self.check, str(error)).model_dump(mode="json")
        self._last = "; ".join(f"{one.watcher}: {one.reason}" for one in beats) or self._last
        found = await self._incident(kube) if self.until_incident else None
        found = found or soaked(
            self.check, beats, now, since=self.since, seconds=self.seconds, silent_since=self._listens_since,
            silent_seconds=self.silent_seconds,
        )  # fmt: skip
        return found.model_dump(mode="json") if found else None

    async def _incident(self, kube: Kube) -> Evidence | None:
        state = await states.read(kube, self.lock)
        if state is None:
            return None
        if lost := given_up(state.incidents):
            return failed(self.check, f"{lost.timeline[-1].what}: {lost.reason}")
        asked = pending(state.incidents)
        return passed(self.check, f"critical incident: {asked.reason}; somebody is asked") if asked else None

    def overdue(self, last: str) -> dict[str, Any]:
        return failed(self.check, f"{self.too_late}: {last or self._last}").model_dump(mode="json")
