"""The service's routes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandbox.hotel import security, validation
from sandbox.hotel.cache import Cache
from sandbox.hotel.metrics import Metrics
from sandbox.hotel.pod import Fault, Pod
from sandbox.hotel.security import Identity
from sandbox.hotel.settings import SLOW_SECONDS, Settings
from sandbox.hotel.store import UNAVAILABLE, Row, Store

log = logging.getLogger("pms")

MAX_BODY = 64 * 1024
EVENT_SECONDS = 0.5
GOING_AWAY = 1001
"""RFC 6455, 7.4.1."""
REFRESH_SECONDS = 1.0
"""How late a pod may notice a logout at another pod, or a column that a migration has added."""
LOOK_SECONDS = 2.0
"""How long the start waits for the first look at the database, which may be away."""
CACHE_SECONDS = 60.0


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat()  # dates and times


class Json(JSONResponse):
    """JSON with dates and money."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=_plain, separators=(",", ":")).encode()


def _camel(row: Row, key: str) -> dict[str, Any]:
    """A row for clients: camel case names, its key as `id`."""

    def name(column: str) -> str:
        if column == key:
            return "id"
        head, *rest = column.split("_")
        return head + "".join(part.capitalize() for part in rest)

    return {name(column): value for column, value in row.items()}


async def _body(request: Request) -> Any:
    """The JSON body; 400 for anything else."""
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise HTTPException(413, f"body: more than {MAX_BODY} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):  # the latter for nesting without end
        raise HTTPException(400, "body: expected JSON") from None


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Hotel:
    """The routes of one pod and what they share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.store = Store(settings.database_url, settings.version)
        self.metrics = Metrics(self.store.connections)
        self._cache = Cache(CACHE_SECONDS, self.metrics.cache_hits, self.metrics.cache_misses)
        self._revoked: frozenset[str] = frozenset()
        self._looked = asyncio.Event()
        app = Starlette(
            routes=self._routes(),
            lifespan=self._lifespan,
            exception_handlers={
                HTTPException: self._refused,
                validation.Invalid: self._invalid,
                **dict.fromkeys(UNAVAILABLE, self._unavailable),
                Exception: self._failed,
            },
        )
        self.pod = Pod(app, settings, self.metrics)

    def _routes(self) -> list[BaseRoute]:
        get, post = ["GET"], ["POST"]
        table: list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]] = [
            ("/health", self.health, get),
            ("/auth/login", self.login, post),
            ("/auth/magic-link", self.magic_link, post),
            ("/auth/logout", self.logout, post),
            ("/rooms", self.rooms, get),
            ("/rooms/availability", self.availability, get),
            ("/bookings", self.bookings, get),
            ("/bookings", self.book, post),
            ("/bookings/{id}/check-in", self.check_in, post),
            ("/bookings/{id}/check-out", self.check_out, post),
            ("/payments", self.pay, post),
            ("/staff", self.staff, get),
            ("/admin/users", self.users, get),
            ("/admin/banner", self.set_banner, ["PUT"]),
            ("/banner", self.banner, get),
            ("/events", self.events, get),
            ("/metrics", self.prometheus, get),
            ("/-/drain", self.drain, ["POST", "DELETE"]),
            ("/-/fault", self.set_fault, post),
        ]
        routes = [Route(path, endpoint, methods=methods) for path, endpoint, methods in table]
        return [*routes, WebSocketRoute("/ws", self.socket)]

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        await self.store.open()
        task = asyncio.create_task(self._refresh())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), LOOK_SECONDS)
        yield
        task.cancel()
        await self.store.close()

    async def _refresh(self) -> None:
        """Keep up with the schema and with logouts at other pods, as far as the database answers."""
        while True:
            with contextlib.suppress(*UNAVAILABLE, asyncpg.PostgresError):
                await self.store.detect()
                self._revoked = await self.store.revoked()
            self._looked.set()
            await asyncio.sleep(REFRESH_SECONDS)

    # --- errors

    async def _refused(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return Json({"error": error.detail}, error.status_code, headers=error.headers)

    async def _invalid(self, _: Request, error: Exception) -> Response:
        return Json({"error": str(error)}, 400)

    async def _unavailable(self, request: Request, error: Exception) -> Response:
        log.warning("database unavailable", extra={"fields": {"path": request.url.path, "error": repr(error)}})
        return Json({"error": "database unavailable"}, 503)

    async def _failed(self, request: Request, error: Exception) -> Response:
        log.error("unhandled error", extra={"fields": {"path": request.url.path, "error": repr(error)}})
        return Json({"error": "internal error"}, 500)

    # --- who calls

    def _identity(self, request: Request, *roles: str) -> Identity:
        identity = security.read_token(self._settings.jwt_secret, _bearer(request))
        if identity is None or identity.token_id in self._revoked:
            raise HTTPException(401, "a valid bearer token is needed", headers={"WWW-Authenticate": "Bearer"})
        if roles and identity.role not in roles:
            raise HTTPException(403, f"only for {', '.join(roles)}")
        return identity

    def _need_admin_token(self, request: Request) -> None:
        """The token may come in a header of its own: an API server's pod proxy strips Authorization."""
        given = request.headers.get("x-admin-token") or _bearer(request)
        if not security.same_secret(given, self._settings.admin_token):
            raise HTTPException(401, "the admin token is needed", headers={"WWW-Authenticate": "Bearer"})

    # --- health and people

    async def health(self, request: Request) -> Response:
        token, expected = _bearer(request), self._settings.health_check_token
        if token and expected and not security.same_secret(token, expected):
            raise HTTPException(401, "wrong health check token", headers={"WWW-Authenticate": "Bearer"})
        state = {"status": "ok", "version": self._settings.version, "database": "ok"}
        try:
            await self.store.ping()
        except (*UNAVAILABLE, asyncpg.PostgresError):
            return Json(state | {"status": "failing", "database": "down"}, 503)
        return Json(state)

    async def login(self, request: Request) -> Response:
        body = await _body(request)
        email, password = validation.email(body), validation.text(body, "password")
        user = await self.store.user_by_email(email)
        if user is None or not security.verify_password(password, user["password_hash"]):
            raise HTTPException(401, "wrong e-mail or password")
        return Json({"token": security.issue_token(self._settings.jwt_secret, user["user_id"], user["role"])})

    async def magic_link(self, request: Request) -> Response:
        email = validation.email(await _body(request))
        await self.store.add_magic_link(email, hashlib.sha256(secrets.token_bytes(32)).hexdigest())
        return Json({"status": "sent if the account exists"}, 202)

    async def logout(self, request: Request) -> Response:
        identity = self._identity(request)
        await self.store.revoke(identity)
        self._revoked |= {identity.token_id}
        return Response(status_code=204)

    async def staff(self, request: Request) -> Response:
        self._identity(request)
        rows = await self.store.staff(self._page(request))
        return Json([_camel(row, "staff_id") for row in rows])

    async def users(self, request: Request) -> Response:
        self._identity(request, "admin")
        rows = await self.store.users(self._page(request))
        return Json([_camel(row, "user_id") for row in rows])

    # --- rooms, bookings, payments

    @staticmethod
    def _page(request: Request) -> int:
        return validation.page_number(request.query_params.get("page"))

    async def rooms(self, request: Request) -> Response:
        self._identity(request)
        page = self._page(request)

        async def load() -> list[dict[str, Any]]:
            return [_camel(row, "room_id") for row in await self.store.rooms(page)]

        return Json(await self._cache.get(page, load))

    async def availability(self, request: Request) -> Response:
        self._identity(request)
        query = request.query_params
        first, last = validation.stay(query.get("checkIn"), query.get("checkOut"))
        return Json({"free": await self.store.free_rooms(first, last)})

    async def bookings(self, request: Request) -> Response:
        identity = self._identity(request)
        owner = None if identity.sees_all else identity.user_id
        rows = await self.store.bookings(owner, self._page(request))
        return Json([_camel(row, "booking_id") for row in rows])

    async def book(self, request: Request) -> Response:
        identity = self._identity(request)
        stay = validation.new_booking(await _body(request))
        try:
            row = await self.store.add_booking(identity.user_id, stay)
        except asyncpg.ForeignKeyViolationError:
            raise HTTPException(401, "the account no longer exists") from None
        if row is None:
            raise HTTPException(404, "roomId: no such room")
        return Json(_camel(row, "booking_id"), 201)

    async def _own_booking(self, identity: Identity, booking_id: int) -> int:
        """The booking's key, if it exists and the caller may see it."""
        owner = await self.store.booking_owner(booking_id)
        if owner is None or not (identity.sees_all or owner == identity.user_id):
            raise HTTPException(404, "no such booking")
        return booking_id

    async def pay(self, request: Request) -> Response:
        identity = self._identity(request)
        body = await _body(request)
        booking_id = validation.identifier(validation.fields(body).get("bookingId"), "bookingId")
        amount = validation.amount(body)
        row = await self.store.add_payment(await self._own_booking(identity, booking_id), amount)
        return Json(_camel(row, "payment_id"), 201)

    async def check_in(self, request: Request) -> Response:
        return await self._move(request, "confirmed", "checked_in")

    async def check_out(self, request: Request) -> Response:
        return await self._move(request, "checked_in", "checked_out")

    async def _move(self, request: Request, before: str, after: str) -> Response:
        identity = self._identity(request)
        wanted = validation.identifier(request.path_params["id"], "id")
        booking_id = await self._own_booking(identity, wanted)
        if not await self.store.move_booking(booking_id, before, after):
            raise HTTPException(409, f"the booking is not {before}")
        return Json({"id": booking_id, "status": after})

    # --- banner, events, operations

    async def banner(self, _: Request) -> Response:
        enabled, message = await self.store.banner()
        return Json({"enabled": enabled, "message": message})

    async def set_banner(self, request: Request) -> Response:
        self._need_admin_token(request)
        enabled, message = validation.new_banner(await _body(request))
        await self.store.set_banner(enabled, message)
        return Json({"enabled": enabled, "message": message})

    async def events(self, _: Request) -> Response:
        headers = {"Cache-Control": "no-store", "Connection": "close"}
        return StreamingResponse(self._ticks(), media_type="text/event-stream", headers=headers)

    async def _ticks(self) -> AsyncIterator[str]:
        """An event every half second, until the client goes or the pod drains."""
        draining = self.pod.draining
        self.pod.streams += 1
        try:
            number = 0
            while not draining.is_set():
                number += 1
                data = {"number": number, "at": time.time(), "version": self._settings.version}
                yield f"event: tick\ndata: {json.dumps(data)}\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(draining.wait(), EVENT_SECONDS)
            yield "event: bye\ndata: {}\n\n"
        finally:
            self.pod.streams -= 1

    async def socket(self, client: WebSocket) -> None:
        """The same over a WebSocket, which is told to go away (1001) when the pod drains."""
        await client.accept()
        draining, hello = self.pod.draining, {"version": self._settings.version, "pod": self._settings.pod}
        self.pod.streams += 1
        try:
            while not draining.is_set():
                await client.send_json({"at": time.time(), **hello})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(draining.wait(), EVENT_SECONDS)
            await client.close(GOING_AWAY)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client has gone: starlette says so in either way
        finally:
            self.pod.streams -= 1

    async def prometheus(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def drain(self, request: Request) -> Response:
        self._need_admin_token(request)
        if request.method == "POST":
            self.pod.draining.set()
        else:
            self.pod.draining.clear()
        return Json({"draining": self.pod.draining.is_set(), "streams": self.pod.streams})

    async def set_fault(self, request: Request) -> Response:
        self._need_admin_token(request)
        body = validation.fields(await _body(request))
        mode, delay = body.get("mode"), body.get("delay_seconds", SLOW_SECONDS)
        if mode not in ("none", "errors", "slow"):
            raise validation.Invalid("mode: expected none, errors or slow")
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay <= 60:
            raise validation.Invalid("delay_seconds: expected 0 to 60")
        self.pod.fault = Fault(mode, float(delay))
        log.warning("fault set", extra={"fields": {"mode": mode}})
        return Json({"mode": mode, "delay_seconds": delay})
