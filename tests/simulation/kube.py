"""A client of the twin whose calls meet what the schedule says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from handover.ports.kube import REQUEST_TIMEOUT, Conflict, Json, KubeError, Permission, PodAnswer
from tests.simulation.schedule import HELD_UP_SECONDS, NO_ANSWER_SECONDS, Call, Fault, Schedule
from tests.twins.kube import TwinKube

T = TypeVar("T")


class Killed(BaseException):
    """The process of this actor is gone, at once and without a word."""


@dataclass
class ScheduledKube:
    """As `handover.ports.kube.Kube`, for one actor. ``on_call`` hears of every call before it travels."""

    twin: TwinKube
    actor: str
    schedule: Schedule
    on_call: Callable[[Call], None]

    @property
    def namespace(self) -> str:
        return self.twin.namespace

    def rehearsing(self) -> ScheduledKube:
        return ScheduledKube(self.twin.rehearsing(), self.actor, self.schedule, self.on_call)

    async def get(self, resource: str, name: str) -> Json:
        return await self._read(f"get {resource} {name}", lambda: self.twin.get(resource, name))

    async def find(self, resource: str, name: str) -> Json | None:
        return await self._read(f"get {resource} {name}", lambda: self.twin.find(resource, name))

    async def events(self, about: str) -> list[Json]:
        return await self._read(f"events of {about}", lambda: self.twin.events(about))

    async def list(self, resource: str, labels: dict[str, str] | None = None) -> list[Json]:
        return await self._read(f"list {resource}", lambda: self.twin.list(resource, labels))

    async def nodes(self) -> list[Json]:
        return await self.twin.nodes()

    async def create(self, resource: str, body: Json) -> Json:
        return await self._write(f"create {resource}", lambda: self.twin.create(resource, body))

    async def replace(self, resource: str, name: str, body: Json) -> Json:
        return await self._write(f"replace {resource} {name}", lambda: self.twin.replace(resource, name, body))

    async def merge(self, resource: str, name: str, body: Json) -> Json:
        return await self._write(f"merge {resource} {name}", lambda: self.twin.merge(resource, name, body))

    async def apply(self, resource: str, body: Json) -> Json:
        return await self._write(f"apply {resource}", lambda: self.twin.apply(resource, body))

    async def delete(self, resource: str, name: str) -> None:
        await self._write(f"delete {resource} {name}", lambda: self.twin.delete(resource, name))

    async def proxy(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> str:  # fmt: skip
        return await self._read(f"proxy {path}", lambda: self.twin.proxy(pod, port, path, method, headers, timeout))

    async def proxied(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> PodAnswer:  # fmt: skip
        return await self._read(f"proxy {path}", lambda: self.twin.proxied(pod, port, path, method, headers, timeout))

    async def logs(self, pod: str, container: str) -> str:
        return await self.twin.logs(pod, container)

    async def may(self, permission: Permission) -> bool:
        return await self.twin.may(permission)

    async def _read(self, what: str, answer: Callable[[], Awaitable[T]]) -> T:
        return await self._call(what, answer, write=False)

    async def _write(self, what: str, answer: Callable[[], Awaitable[T]]) -> T:
        return await self._call(what, answer, write=True)

    async def _call(self, what: str, answer: Callable[[], Awaitable[T]], *, write: bool) -> T:
        schedule = self.schedule
        call = schedule.next_call(self.actor)
        if schedule.tell:
            schedule.tell(f"{asyncio.get_running_loop().time():9.3f} {self.actor:30} {call.number:3} {what}")
        self.on_call(call)
        fault = schedule.fault(call, write=write)
        await asyncio.sleep(schedule.latency())
        if fault is None:
            return await answer()
        schedule.met.append((call, what, fault))
        if schedule.tell:
            schedule.tell(f"{' ':9} {self.actor:30} {call.number:3} meets {fault}")
        return await self._faulty(what, answer, fault)

    async def _faulty(self, what: str, answer: Callable[[], Awaitable[T]], fault: Fault) -> T:
        if fault is Fault.CONFLICT:
            raise Conflict(409, f"{what}: conflict")
        if fault is Fault.UNAVAILABLE:
            raise KubeError(503, f"{what}: unavailable")
        if fault is Fault.TIMEOUT:
            await asyncio.sleep(NO_ANSWER_SECONDS)
            raise KubeError(0, f"{what}: no answer")
        if fault is Fault.KILLED:
            raise Killed
        if fault is Fault.HELD_UP:
            await asyncio.sleep(HELD_UP_SECONDS)
        if fault is Fault.STALE:
            with self.twin.cluster.as_before():
                return await answer()
        found = await answer()
        if fault is Fault.TIMEOUT_LATE:
            await asyncio.sleep(NO_ANSWER_SECONDS)
            raise KubeError(0, f"{what}: no answer, though it took effect")
        if fault is Fault.KILLED_LATE:
            raise Killed
        if fault is Fault.HELD_UP_LATE:
            await asyncio.sleep(HELD_UP_SECONDS)
        return found
