"""Runs the sources of a watch side by side, and says at once when a rule breaks.

No source waits for another, and none for its own last answer: a pod or a probe that hangs delays nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.analysis import judge
from handover.analysis.holds import NOISE_SECONDS, Holds
from handover.analysis.judge import Finding
from handover.analysis.observations import PODS, PROBE, Observations
from handover.analysis.sources import PodMetrics, Probe
from handover.models import names

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.metrics import MetricSource
    from handover.ports.public import PublicAddress

PODS_SECONDS = 1.0
"""How often the list of pods is read again."""
PROGRESS_SECONDS = 10.0
HELD_UP_SECONDS = 0.3
"""So much of an answer's time may have been our own: it says nothing about the release."""
MAX_WAITING = 64
MAX_PAUSE_SECONDS = 5.0
"""Between two probes, while something in front of the release refuses them: each refusal doubles the pause."""
EARLY_SECONDS = 1e-6
"""An event loop wakes us up a little too early rather than too late."""
Look = Callable[[], Coroutine[Any, Any, None]]


class Observer:
    """One watch of one colour. ``say`` gets a line every ten seconds.

    :param public: the address that clients use
    :param extra: further sources, asked every ``watch.slow_interval_seconds``
    :param baseline: what is normal, by measurement name
    """

    def __init__(
        self, kube: Kube, plan: Plan, public: PublicAddress, colour: str, *, extra: Sequence[MetricSource] = (),
        baseline: dict[str, float] | None = None, say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        normal = baseline or {}
        self.seen = Observations(plan, clock.monotonic(), normal, tuple(source.name for source in extra))
        status = normal.get(names.PROBE_STATUS)
        self._public_probe = Probe(public, plan, None if status is None else int(status))
        self._plan, self._extra, self.say = plan, extra, say
        self._metrics = PodMetrics(kube, plan, colour)
        self._pods: list[str] = []
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._numbers = 0
        self._sent: dict[int, float] = {}
        self._holds = Holds()
        self._pause, self._quiet_until = 0.0, 0.0
        self._said: set[str] = set()

    async def watch(self, seconds: float) -> Finding | None:
        """Observes for so long; gives the first broken rule at once, or None at the end. Called again, it goes on from
        what it has seen.
        """
        self._found: asyncio.Future[Finding] = asyncio.get_running_loop().create_future()
        self._due = clock.monotonic()
        watch, begun = self._plan.watch, clock.monotonic()
        jobs: list[tuple[float, Callable[[], None]]] = [
            (watch.probe_interval_seconds, self._send),
            (watch.metrics_interval_seconds, self._read),
            (PODS_SECONDS, partial(self._begin, "list", PODS, self._list)),
            (watch.slow_interval_seconds, self._ask),
            (min(1.0, watch.slow_interval_seconds), self._judge_slowly),
            (PROGRESS_SECONDS, self._tell),
        ]
        next_at = [begun, begun, begun, begun, begun + 1.0, begun + PROGRESS_SECONDS]
        try:
            while not self._found.done() and (now := self._wake()) < begun + seconds:
                for i, (interval, start) in enumerate(jobs):
                    if now >= next_at[i] - EARLY_SECONDS:
                        next_at[i] = max(next_at[i] + interval, now)
                        start()
                self._due = max(next_at[0], now)
                await asyncio.wait([self._found], timeout=max(0.0, next_at[0] - clock.monotonic()))
            return self._found.result() if self._found.done() else None
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._tasks.clear()

    # --- sources

    def _send(self) -> None:
        if len(self.seen.waiting) < MAX_WAITING and clock.monotonic() >= self._quiet_until - EARLY_SECONDS:
            self._numbers += 1
            self._begin(self._numbers, "", partial(self._probe, self._numbers))

    def _read(self) -> None:
        for pod in self._pods:
            self._begin(("read", pod), PODS, partial(self._pod, pod))

    def _ask(self) -> None:
        for source in self._extra:
            self._begin(("ask", source.name), source.name, partial(self._measure, source))

    async def _list(self) -> None:
        first, self._pods = not self._pods, await self._metrics.pods()
        self.seen.ready(clock.monotonic(), self._pods)
        self.seen.restarts(clock.monotonic(), self._metrics.restarts)
        if not self._pods:
            self.seen.silence[PODS] = "no pod is ready"
        if first:
            self._read()

    async def _pod(self, pod: str) -> None:
        self.seen.pod(pod, await self._metrics.read(pod), self._metrics.kubelet.get(pod, 0.0))
        self._judge(judge.fast_breach(self.seen, self._now()))

    async def _measure(self, source: MetricSource) -> None:
        self.seen.measured(clock.monotonic(), source.name, await source.measure())

    async def _probe(self, number: int) -> None:
        sent = self._sent[number] = self.seen.waiting[number] = clock.monotonic()
        try:
            probed = await self._public_probe.ask()
        finally:
            now = self._now()
            del self._sent[number], self.seen.waiting[number]
        if (ours := self._holds.ours(sent)) > HELD_UP_SECONDS and probed.seconds > HELD_UP_SECONDS:
            self.seen.heard[PROBE] = now  # there is an answer, though nobody knows how long it took
            return
        self.seen.probe(now, replace(probed, seconds=max(0.0, probed.seconds - ours)))
        self._spare(bool(probed.silence))
        if probed.problem:
            self._judge(judge.fast_breach(self.seen, now))

    def _spare(self, refused: bool) -> None:
        """Asks less often where that is why nobody answers."""
        interval = self._plan.watch.probe_interval_seconds
        self._pause = min(MAX_PAUSE_SECONDS, max(interval, 2 * self._pause)) if refused else 0.0
        self._quiet_until = clock.monotonic() + self._pause

    def _begin(self, key: object, source: str, look: Look) -> None:
        """Starts a look, unless the same one is still under way.

        Whatever goes wrong with it leaves its source without data, which is a breach in time.
        """

        async def guarded() -> None:
            try:
                await look()
            except Exception as error:
                self.seen.silence[source] = f"{type(error).__name__}: {error}"[:200]
            finally:
                self._tasks.pop(key, None)

        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(guarded())

    # --- verdicts

    def _judge(self, finding: Finding | None) -> None:
        if finding and not self._found.done():
            self._found.set_result(finding)

    def _judge_slowly(self) -> None:
        now = clock.monotonic()
        self.seen.resources(now, self._metrics.limits)
        self._judge(judge.breach(self.seen, now))
        for found in judge.incidents(self.seen, now):
            if found.source + found.measure not in self._said:
                self._said.add(found.source + found.measure)
                self.say(f"incident: {found}")

    def _now(self) -> float:
        """The time. What this process has made probes wait for that are under way is not held against the release."""
        now = clock.monotonic()
        if (late := now - self._due) > NOISE_SECONDS:
            self._holds.add(now, late)
            self.seen.waiting.update({number: sent + self._holds.ours(sent) for number, sent in self._sent.items()})
        return now

    def _wake(self) -> float:
        """The time. Probes that wait too long by themselves are held against the release at once."""
        now = self._now()
        if (late := now - self._due) > HELD_UP_SECONDS:
            self.seen.excuse(late)
        if self.seen.overdue(now):
            self._judge(judge.fast_breach(self.seen, now))
        return now

    def _tell(self) -> None:
        seen = self.seen
        values = {m.what: m for m in seen.summary(clock.monotonic()) if m.value is not None}
        wanted = (names.P50, names.P99, names.CPU, names.MEMORY, names.REPLICATION_LAG, names.CONNECTIONS)
        told = ", ".join(f"{values[what].what} {values[what].value:.3g}" for what in wanted if what in values)
        self.say(
            f"{seen.served.total:g} answers of {len(self._pods)} pods ({seen.served.bad:g} bad), "
            f"{seen.probed.total:g} probes ({seen.probed.bad:g} bad), {told}"
        )
        for note in judge.notes(seen, clock.monotonic()):
            self.say(f"alert: {note}")
