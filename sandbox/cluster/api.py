"""The HTTP API: from a path and a method to a call of the registry, and its answer back as JSON or a stream."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sandbox.cluster import apply, selectors
from sandbox.cluster.discovery import DOCUMENTS, EMPTY_SWAGGER
from sandbox.cluster.errors import StatusError, bad_request, not_found
from sandbox.cluster.kinds import BY_PATH, LEASE, POD, SERVICE, Kind
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.patch import PATCHES, apply_patch
from sandbox.cluster.registry import DeleteOptions, Registry, Write, shape
from sandbox.cluster.relay import Relay
from sandbox.cluster.store import Object
from sandbox.cluster.watching import Watching, watch

log = logging.getLogger(__name__)

audit = logging.getLogger("sandbox.cluster.audit")

APPLY = "application/apply-patch+yaml"
ACCESS_REVIEWS = "apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True)
class Target:
    """What a path means: a collection, an object, or a part of an object."""

    kind: Kind
    namespace: str
    name: str = ""
    part: str = ""  # status, scale, log or proxy


def parse_target(path: str) -> Target | None:
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, steps = "", parts[2:]
    elif len(parts) > 3 and parts[0] == "apis" and parts[2] == "v1":
        group, steps = parts[1], parts[3:]
    else:
        return None
    namespace = ""
    if steps[:1] == ["namespaces"] and len(steps) > 2:
        namespace, steps = steps[1], steps[2:]
    kind = BY_PATH.get((group, steps[0])) if steps else None
    if kind is None or (namespace and not kind.namespaced):
        return None
    name, part, *rest = (*steps[1:], "", "")
    known = {"": True, "status": kind.status, "scale": kind.scale, "log": kind is POD, "proxy": kind in (POD, SERVICE)}
    if not known.get(part) or (any(rest) and part != "proxy"):
        return None
    return Target(kind, namespace, name, part)


class Api:
    """An ASGI application. `token` is the one bearer token; who has it may do everything."""

    def __init__(self, registry: Registry, token: str, logs: PodLogs, relay: Relay) -> None:
        self.registry, self.logs, self.relay = registry, logs, relay
        self._authorization = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except StatusError as error:
            response = JSONResponse(error.status(), error.code)
        except ClientDisconnect:
            return
        except Exception as error:
            log.exception("%s %s", request.method, request.url.path)
            failure = StatusError(500, "InternalError", f"Internal error occurred: {error!r}")
            response = JSONResponse(failure.status(), 500)
        _audit(request, response.status_code)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.strip("/")
        if path in ("readyz", "livez", "healthz"):
            return PlainTextResponse("ok")
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._authorization):
            raise StatusError(401, "Unauthorized", "Unauthorized")
        if path in DOCUMENTS:
            return JSONResponse(DOCUMENTS[path])
        if path == "openapi/v2":
            return Response(EMPTY_SWAGGER, media_type="application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
        if path == ACCESS_REVIEWS and request.method == "POST":
            return JSONResponse({**await _body(request), "status": {"allowed": True}}, 201)
        target = parse_target(request.url.path)
        if target is None:
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        return await self._resource(request, target)

    async def _resource(self, request: Request, target: Target) -> Response:
        method = request.method
        if target.part == "proxy":
            return await self.relay.handle(request, target.kind, target.namespace, target.name)
        if target.part == "log" and method == "GET":
            return self.logs.response(self.registry.get(POD, target.namespace, target.name), request.query_params)
        handler = {
            ("GET", False): self._list,
            ("POST", False): self._create,
            ("GET", True): self._get,
            ("PUT", True): self._put,
            ("PATCH", True): self._patch,
            ("DELETE", True): self._delete,
        }.get((method, bool(target.name)))
        if handler is None or (target.part and method == "DELETE"):
            raise StatusError(405, "MethodNotAllowed", "the server does not allow this method on the resource")
        if target.kind.namespaced and not target.namespace and (target.name or method == "POST"):
            raise not_found(target.kind.resource, target.name)
        return await handler(request, target)

    # --- reading

    async def _get(self, request: Request, target: Target) -> Response:
        return _shown(target, self.registry.get(target.kind, target.namespace, target.name))

    async def _list(self, request: Request, target: Target) -> Response:
        query, kind, store = request.query_params, target.kind, self.registry.store
        labels = selectors.label_selector(query.get("labelSelector", ""))
        fields = selectors.field_selector(query.get("fieldSelector", ""), kind.name)

        def selected(obj: Object) -> bool:
            return labels(obj) and fields(obj)

        version = _number(query.get("resourceVersion"))
        if _flag(request, "watch"):
            wanted = Watching(
                kind, target.namespace, selected, version, _flag(request, "allowWatchBookmarks"),
                _flag(request, "sendInitialEvents"), _number(query.get("timeoutSeconds")) or 3600,
            )  # fmt: skip
            return StreamingResponse(watch(store, wanted), media_type="application/json")
        if version > store.version:
            raise StatusError(504, "Timeout", f"Too large resource version: {version}")
        found = [obj for obj in store.objects(kind, target.namespace) if selected(obj)]
        meta = {"resourceVersion": str(store.version)}
        about = {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta}
        return JSONResponse({**about, "items": found})

    # --- writing

    async def _create(self, request: Request, target: Target) -> Response:
        new = self.registry.create(target.kind, target.namespace, await _body(request), _write(request))
        return JSONResponse(new, 201)

    async def _put(self, request: Request, target: Target) -> Response:
        body = await _body(request)
        if target.kind is LEASE and self.registry.find(LEASE, target.namespace, target.name) is None:
            return await self._create(request, target)
        return self._update(request, target, lambda _: body)

    async def _patch(self, request: Request, target: Target) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if media_type == APPLY:
            return await self._apply(request, target)
        if media_type not in PATCHES:
            message = f"accepted media types include: {', '.join([*PATCHES, APPLY])}"
            raise StatusError(415, "UnsupportedMediaType", message)
        change = await _body(request, anything=True)
        return self._update(request, target, lambda current: apply_patch(media_type, current, change))

    async def _apply(self, request: Request, target: Target) -> Response:
        wanted, kind = await _body(request), target.kind
        manager, force = request.query_params.get("fieldManager", ""), _flag(request, "force")
        wanted = {"apiVersion": kind.api_version, **wanted}
        with shape(kind):
            wanted.setdefault("metadata", {}).setdefault("name", target.name)

        def change(current: Object | None) -> Object:
            return apply.apply(current, wanted, manager, force)

        if self.registry.find(kind, target.namespace, target.name) is None:
            with shape(kind):
                new = change(None)
            return JSONResponse(self.registry.create(kind, target.namespace, new, _write(request)), 201)
        return self._update(request, target, change, applying=True)

    def _update(
        self, request: Request, target: Target, change: Callable[[Object], Object], *, applying: bool = False
    ) -> Response:
        def scale(current: Object) -> Object:
            wanted = change(_scale(current))
            version = wanted["metadata"].get("resourceVersion", current["metadata"]["resourceVersion"])
            meta = {**current["metadata"], "resourceVersion": version}
            return {**current, "metadata": meta, "spec": {**current["spec"], "replicas": wanted["spec"]["replicas"]}}

        updated = self.registry.update(
            target.kind, target.namespace, target.name, scale if target.part == "scale" else change, _write(request),
            subresource=target.part.removeprefix("scale"), applying=applying,
        )  # fmt: skip
        return _shown(target, updated)

    async def _delete(self, request: Request, target: Target) -> Response:
        old = self.registry.delete(target.kind, target.namespace, target.name, await _delete_options(request))
        if target.kind in (POD, SERVICE):
            return JSONResponse(old)
        details = {"name": target.name, "group": target.kind.group, "kind": target.kind.plural,
                   "uid": old["metadata"]["uid"]}  # fmt: skip
        return JSONResponse({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details})


def _audit(request: Request, code: int) -> None:
    """What a role can be compared with, out of the event that a real server's audit log has."""
    if not audit.isEnabledFor(logging.INFO) or (target := parse_target(request.url.path)) is None:
        return
    read = "get" if target.name else "watch" if _flag(request, "watch") else "list"
    about = {"resource": target.kind.plural, "apiGroup": target.kind.group, "subresource": target.part,
             "namespace": target.namespace, "name": target.name}  # fmt: skip
    agent, status = request.headers.get("user-agent", ""), {"code": code}
    event = {"verb": VERBS.get(request.method, read), "userAgent": agent, "objectRef": about, "responseStatus": status}
    audit.info(json.dumps(event))


# --- what a request says


async def _body(request: Request, *, anything: bool = False) -> Any:
    """The body as JSON or YAML; an object, unless `anything` is fine."""
    raw, media_type = await request.body(), request.headers.get("content-type", "").partition(";")[0].strip()
    if "protobuf" in media_type:
        raise StatusError(415, "UnsupportedMediaType", "this server takes JSON and YAML")
    try:
        body = yaml.safe_load(raw) if media_type.endswith("yaml") else json.loads(raw)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise bad_request(f"error decoding the body: {error}") from error
    if not anything and not isinstance(body, dict):
        raise bad_request("the body must be an object")
    return body


async def _delete_options(request: Request) -> DeleteOptions:
    body = await _body(request) if await request.body() else {}
    conditions, grace = body.get("preconditions") or {}, body.get("gracePeriodSeconds")
    grace = request.query_params.get("gracePeriodSeconds", grace)
    return DeleteOptions(
        None if grace is None else _number(grace),
        uid=conditions.get("uid"),
        version=conditions.get("resourceVersion"),
        dry_run=_write(request).dry_run or bool(body.get("dryRun")),
    )


def _write(request: Request) -> Write:
    query = request.query_params
    agent = request.headers.get("user-agent", "").partition("/")[0]
    return Write(query.get("fieldManager") or agent or "unknown", bool(query.get("dryRun")))


def _flag(request: Request, name: str) -> bool:
    """As Go, Python or a person write it."""
    return request.query_params.get(name, "").lower() in ("true", "t", "1")


def _number(text: Any) -> int:
    try:
        return int(text or 0)
    except (ValueError, TypeError) as error:
        raise bad_request(f"not a number: {text!r}") from error


# --- what it is answered


def _shown(target: Target, obj: Object) -> Response:
    return JSONResponse(_scale(obj) if target.part == "scale" else obj)


def _scale(obj: Object) -> Object:
    meta = {field: obj["metadata"][field] for field in ("name", "namespace", "uid", "resourceVersion")}
    labels = (obj["spec"]["selector"].get("matchLabels") or {}).items()
    status = {
        "replicas": obj["status"].get("replicas", 0),
        "selector": ",".join(f"{key}={value}" for key, value in labels),
    }
    about = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta}
    return {**about, "spec": {"replicas": obj["spec"]["replicas"]}, "status": status}
