"""Whether the public address answers from one version by now, whatever lies before the service: nodes, an ingress, a
load balancer with health checks of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination.routing import Check, NotReady, patiently
from handover.models import answers
from handover.models.answers import Answered
from handover.ports.public import stored

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.plan.traffic import Origin
    from handover.ports.public import Answer, PublicAddress

REQUEST_SECONDS = 5.0
PAUSE_SECONDS, SLOW_PAUSE_SECONDS = 0.02, 0.25
"""Between two requests, at first and later on: what lies before a service limits who asks too much."""
QUICK_SECONDS, MEANWHILE_SECONDS = 2.0, 0.25
ALONE, AMONG_OTHERS = 1, 4
"""One in so many answers has to be from the version. While both colours serve it is every other one, once every pod is
let in: half of the pods are of each.
"""


class BadAnswers(Exception):
    """The version answers, but badly."""


@dataclass(frozen=True)
class Reached:
    """``first``: seconds until the first answer from the version; ``answered``: the status of another version."""

    first: float
    answers: int
    answered: int | None


@dataclass(frozen=True)
class Reach:
    """Asks on new connections.

    :param wanted: what answers of the version say, see `Plan.said_by`; where nothing tells it, any good answer counts
    :param meanwhile: called now and then between answers that were not the wanted ones; raises when there is nothing to
        wait for any more
    :param tolerant: bad answers are no reason to give up, as while a bad version serves still
    """

    plan: Plan
    public: PublicAddress
    wanted: str
    meanwhile: Check
    tolerant: bool = False

    async def until(self, one_in: int, timeout: float, answered: int | None = None) -> Reached:
        """Waits until of the last answers ``traffic.verify_requests`` were good ones from the version, which have to be
        ``one_in`` so many.

        Raises `NotReady` after ``timeout`` seconds with what was seen, `BadAnswers` when so many of the last ones were
        bad as make a breach in the watch, and what ``meanwhile`` raises.

        :param answered: the status that another version gives to the same request, None: not known
        """
        wanted, worst = self.plan.traffic.verify_requests, self.plan.watch.min_bad_samples
        begun = quick_from = asked = clock.monotonic()
        last: deque[Answered] = deque(maxlen=wanted * one_in)
        seen: Counter[str] = Counter()
        first: float | None = None
        while True:
            answer = await self.public.get(self.path, REQUEST_SECONDS)
            named, now = self._named(answer), clock.monotonic()
            if named and not self._ours(named):
                answered = answer.status
            verdict, said = self._judged(answer, named, answered)
            last.append(verdict)
            seen[said] += 1
            if verdict is Answered.GOOD:
                first, quick_from = (now - begun, now) if first is None else (first, quick_from)
                if last.count(Answered.GOOD) >= wanted:
                    return Reached(first, wanted, answered)
                continue
            if not self.tolerant and last.count(Answered.BAD) >= worst:
                raise BadAnswers(f"{last.count(Answered.BAD)} bad answers, the last one: {said}")
            if now - asked >= MEANWHILE_SECONDS or now - begun > timeout:
                asked = now
                await patiently(self.meanwhile)
            if now - begun > timeout:
                raise NotReady(_told(self.wanted or self.path, now - begun, seen))
            await asyncio.sleep(PAUSE_SECONDS if now - quick_from < QUICK_SECONDS else SLOW_PAUSE_SECONDS)

    @property
    def path(self) -> str:
        return (self._origin and self._origin.path) or self.plan.health.path

    @property
    def _origin(self) -> Origin | None:
        return self.plan.traffic.origin

    def _named(self, answer: Answer) -> str:
        return self._origin.said(answer.headers, answer.body) if self._origin else ""

    def _ours(self, named: str) -> bool:
        return self._origin is None or self._origin.is_from(named, self.wanted)

    def _judged(self, answer: Answer, named: str, answered: int | None) -> tuple[Answered, str]:
        """What it says of the version, and what it was. An answer of no version may be that of what lies before it."""
        ours = self._ours(named)
        if named and not ours:
            return Answered.NO_DATA, named
        verdict = answers.judged(answer.status, stable=answered)
        if verdict is Answered.GOOD and answer.stored_seconds:
            return Answered.NO_DATA, stored(answer.stored_seconds)
        if verdict is Answered.GOOD:
            return (verdict, named) if ours else (Answered.NO_DATA, "an unnamed version")
        why = answers.problem(answer.status, answer.problem, stable=answered)
        return verdict, why or answers.silence(answer.status, stable=answered)


def _told(version: str, seconds: float, seen: Counter[str]) -> str:
    other = "; ".join(f"{said} ({count} of {seen.total()})" for said, count in seen.most_common(5) if said != version)
    hint = (
        ""
        if len(seen) > 1
        else "; if something before the service keeps a client with its pod, it has to be told not to"
    )
    return f"new connections still reach {other or 'nobody'} instead of {version} after {seconds:.1f} s{hint}"
