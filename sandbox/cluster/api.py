"""The HTTP API: from a path and a method to a call of the registry, and its answer back as JSON, table or stream."""

from __future__ import annotations

import base64
import hmac
import json
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sandbox.cluster import apply, discovery, protobuf, selectors
from sandbox.cluster.errors import StatusError, bad_request, not_found
from sandbox.cluster.kinds import BY_PATH, POD, SERVICE, Kind
from sandbox.cluster.logs import LogOptions, PodLogs
from sandbox.cluster.patch import PATCHES, apply_patch
from sandbox.cluster.query import flag, number
from sandbox.cluster.registry import DeleteOptions, Registry, Write, shape
from sandbox.cluster.relay import Relay
from sandbox.cluster.store import Object
from sandbox.cluster.tables import table
from sandbox.cluster.watching import Watching, watch

log = logging.getLogger(__name__)

APPLY = "application/apply-patch+yaml"
LARGEST_BODY = 3 * 1024 * 1024
WITHOUT_TOKEN = ("/readyz", "/livez", "/healthz", "/version")


@dataclass(frozen=True)
class Target:
    """What a path means: a collection, an object, or a part of an object."""

    kind: Kind
    namespace: str
    name: str = ""
    subresource: str = ""
    rest: str | None = None  # what follows /proxy


def parse_target(path: str) -> Target | None:
    parts = path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, steps = "", parts[2:]
    elif len(parts) > 3 and parts[0] == "apis" and parts[2] == "v1":
        group, steps = parts[1], parts[3:]
    else:
        return None
    namespace = ""
    if steps[0:1] == ["namespaces"] and len(steps) > 2 and steps[2] not in ("status", "finalize"):
        namespace, steps = steps[1], steps[2:]
    kind = BY_PATH.get((group, "v1", steps[0])) if steps else None
    if kind is None or (namespace and not kind.namespaced):
        return None
    name, subresource, *rest = (*steps[1:], "", "")[: max(2, len(steps) - 1)]
    if rest and subresource != "proxy":
        return None
    after = path.partition("/proxy/")[2] if subresource == "proxy" else None
    return Target(kind, namespace, name, subresource, after)


class Api:
    """An ASGI application. `token` is the one bearer token; who has it may do everything."""

    def __init__(self, registry: Registry, token: str, logs: PodLogs, relay: Relay) -> None:
        self.registry, self.logs, self.relay = registry, logs, relay
        self._authorization = f"Bearer {token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
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
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        open_to_all = path.rstrip("/") in WITHOUT_TOKEN
        if not open_to_all and not self._may(request):
            raise StatusError(401, "Unauthorized", "Unauthorized")
        target = parse_target(path)
        if target is not None:
            return await self._resource(request, target)
        return await self._about(request, path.strip("/"))

    def _may(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), self._authorization.encode())

    async def _about(self, request: Request, path: str) -> Response:
        """Everything that is not an object."""
        if path in ("readyz", "livez", "healthz"):
            return PlainTextResponse("ok")
        if path == "openapi/v2" and "protobuf" in request.headers.get("accept", ""):
            media_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
            return Response(discovery.EMPTY_SWAGGER, media_type=media_type)
        if path == "apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and request.method == "POST":
            review = await _body(request)
            return JSONResponse({**review, "status": {"allowed": True}}, 201)
        found = discovery.document(path)
        if found is None:
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        return JSONResponse(found)

    async def _resource(self, request: Request, target: Target) -> Response:
        if target.subresource == "proxy" and target.kind in (POD, SERVICE):
            return await self.relay.handle(request, target.kind, target.namespace, target.name, target.rest or "")
        if target.subresource == "log" and target.kind is POD and request.method == "GET":
            pod = self.registry.get(POD, target.namespace, target.name)
            return self.logs.response(pod, LogOptions.parse(request.query_params))
        if target.subresource and not (
            (target.subresource == "status" and target.kind.status)
            or (target.subresource == "scale" and target.kind.scale)
        ):
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        handler = {
            ("GET", False): self._list,
            ("POST", False): self._create,
            ("DELETE", False): self._delete_all,
            ("GET", True): self._get,
            ("PUT", True): self._put,
            ("PATCH", True): self._patch,
            ("DELETE", True): self._delete,
        }.get((request.method, bool(target.name)))
        if handler is None or (request.method == "DELETE" and target.subresource):
            message = "the server does not allow this method on the requested resource"
            raise StatusError(405, "MethodNotAllowed", message)
        if target.kind.namespaced and not target.namespace and (target.name or request.method == "POST"):
            raise not_found(target.kind.resource, target.name)
        return await handler(request, target)

    # --- reading

    async def _get(self, request: Request, target: Target) -> Response:
        obj = self.registry.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return JSONResponse(_scale(obj))
        return _one(request, target.kind, obj)

    async def _list(self, request: Request, target: Target) -> Response:
        query, kind, store = request.query_params, target.kind, self.registry.store
        labels = selectors.label_selector(query.get("labelSelector", ""))
        fields = selectors.field_selector(query.get("fieldSelector", ""), kind.name)

        def selected(obj: Object) -> bool:
            return labels(obj) and fields(obj)

        if flag(query, "watch"):
            options = Watching.parse(query, kind, target.namespace, _wants_table(request))
            return StreamingResponse(watch(store, options, selected), media_type="application/json")
        version, after = store.version, ["", ""]
        if query.get("continue"):
            version, after = _read_continue(query["continue"])
        elif query.get("resourceVersionMatch") == "Exact":
            version = number(query, "resourceVersion") or 0
        if (number(query, "resourceVersion") or 0) > store.version:
            raise StatusError(504, "Timeout", f"Too large resource version: {query['resourceVersion']}")
        objects = [obj for obj in store.objects_at(kind, target.namespace, version) if selected(obj)]
        rest = [obj for obj in objects if _place(obj) > after]
        limit = number(query, "limit")
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if limit and 0 < limit < len(rest):
            meta["continue"] = _write_continue(version, _place(rest[limit - 1]))
            meta["remainingItemCount"] = len(rest) - limit
            rest = rest[:limit]
        if _wants_table(request):
            return JSONResponse(table(kind, rest, meta, query.get("includeObject", "Metadata")))
        return JSONResponse(
            {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": rest}
        )

    # --- writing

    async def _create(self, request: Request, target: Target) -> Response:
        body, write = await _body(request), _write(request)
        return _one(request, target.kind, self.registry.create(target.kind, target.namespace, body, write), 201)

    async def _put(self, request: Request, target: Target) -> Response:
        body, write = await _body(request), _write(request)
        kind, found = target.kind, self.registry.find(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return self._set_scale(target, lambda _: body, write)
        if found is None and kind.create_on_update:
            return _one(request, kind, self.registry.create(kind, target.namespace, body, write), 201)
        return _one(request, kind, self._update(target, lambda _: body, write))

    async def _patch(self, request: Request, target: Target) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if media_type == APPLY:
            return await self._apply(request, target)
        if media_type not in PATCHES:
            known = ", ".join([*PATCHES, APPLY])
            message = f"the body of the request was in an unknown format - accepted media types include: {known}"
            raise StatusError(415, "UnsupportedMediaType", message)
        change, write = await _body(request, anything=True), _write(request)
        if target.subresource == "scale":
            return self._set_scale(target, lambda scale: apply_patch(media_type, scale, change), write)
        updated = self._update(target, lambda current: apply_patch(media_type, current, change), write)
        return _one(request, target.kind, updated)

    async def _apply(self, request: Request, target: Target) -> Response:
        wanted, write, query = await _body(request), _write(request), request.query_params
        force, kind = flag(query, "force"), target.kind
        manager = query.get("fieldManager", "")
        with shape(kind):
            wanted.setdefault("metadata", {}).setdefault("name", target.name)
        if self.registry.find(kind, target.namespace, target.name) is None:
            with shape(kind):
                new = apply.apply(None, {**wanted, "kind": kind.name}, manager, force)
            return _one(request, kind, self.registry.create(kind, target.namespace, new, write), 201)
        updated = self.registry.update(
            kind,
            target.namespace,
            target.name,
            lambda current: apply.apply(current, wanted, manager, force),
            write,
            subresource=target.subresource,
            applying=True,
        )
        return _one(request, kind, updated)

    def _update(self, target: Target, change: Any, write: Write) -> Object:
        return self.registry.update(
            target.kind, target.namespace, target.name, change, write, subresource=target.subresource
        )

    def _set_scale(self, target: Target, change: Any, write: Write) -> Response:
        def set_replicas(current: Object) -> Object:
            wanted = change(_scale(current))
            version = (wanted.get("metadata") or {}).get("resourceVersion")
            current["metadata"]["resourceVersion"] = version or current["metadata"]["resourceVersion"]
            current["spec"]["replicas"] = (wanted.get("spec") or {}).get("replicas", 0)
            return current

        updated = self.registry.update(target.kind, target.namespace, target.name, set_replicas, write)
        return JSONResponse(_scale(updated))

    async def _delete(self, request: Request, target: Target) -> Response:
        options = await _delete_options(request)
        old = self.registry.delete(target.kind, target.namespace, target.name, options)
        if target.kind.returns_deleted or old["metadata"].get("deletionTimestamp"):
            return JSONResponse(old)
        details = {"name": target.name, "kind": target.kind.plural, "uid": old["metadata"]["uid"]}
        if target.kind.group:
            details["group"] = target.kind.group
        return JSONResponse(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    async def _delete_all(self, request: Request, target: Target) -> Response:
        options, query, kind = await _delete_options(request), request.query_params, target.kind
        labels = selectors.label_selector(query.get("labelSelector", ""))
        fields = selectors.field_selector(query.get("fieldSelector", ""), kind.name)
        found = [obj for obj in self.registry.store.objects(kind, target.namespace) if labels(obj) and fields(obj)]
        for obj in found:
            self.registry.delete(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"], options)
        meta = {"resourceVersion": str(self.registry.store.version)}
        return JSONResponse(
            {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": meta, "items": found}
        )


async def _body(request: Request, *, anything: bool = False) -> Any:
    """The body as JSON or YAML; an object, unless `anything` is fine."""
    raw = await request.body()
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if len(raw) > LARGEST_BODY:
        raise StatusError(413, "RequestEntityTooLarge", f"limit is {LARGEST_BODY}")
    if "protobuf" in media_type:
        return protobuf.decode(raw)
    try:
        body = yaml.safe_load(raw) if media_type.endswith("yaml") else json.loads(raw)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise bad_request(f"error decoding the body: {error}") from error
    if not anything and not isinstance(body, dict):
        raise bad_request("the body must be an object")
    return body


async def _delete_options(request: Request) -> DeleteOptions:
    query = request.query_params
    body = await _body(request) if await request.body() else {}
    conditions = body.get("preconditions") or {}
    grace = query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    orphan = query.get("orphanDependents") == "true" or body.get("orphanDependents") is True
    propagation = query.get("propagationPolicy") or body.get("propagationPolicy") or ""
    if propagation not in ("", "Background", "Foreground", "Orphan"):
        raise bad_request(f"invalid propagationPolicy: {propagation}")
    try:
        seconds = None if grace is None else int(grace)
    except (TypeError, ValueError) as error:
        raise bad_request(f"invalid gracePeriodSeconds: {grace}") from error
    return DeleteOptions(
        grace=seconds,
        propagation="Orphan" if orphan else propagation or "Background",
        uid=conditions.get("uid"),
        version=conditions.get("resourceVersion"),
        dry_run=_write(request).dry_run or bool(body.get("dryRun")),
    )


def _write(request: Request) -> Write:
    query = request.query_params
    if query.get("dryRun") not in (None, "", "All"):
        raise bad_request(f"Invalid value for dryRun: {query['dryRun']}")
    agent = request.headers.get("user-agent", "").partition("/")[0]
    return Write(query.get("fieldManager") or agent or "unknown", query.get("dryRun") == "All")


def _place(obj: Object) -> list[str]:
    return [obj["metadata"].get("namespace", ""), obj["metadata"]["name"]]


def _write_continue(version: int, after: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([version, after]).encode()).decode()


def _read_continue(token: str) -> tuple[int, list[str]]:
    try:
        version, after = json.loads(base64.urlsafe_b64decode(token))
        return int(version), [str(after[0]), str(after[1])]
    except (ValueError, TypeError, IndexError) as error:
        raise bad_request("continue key is not valid") from error


def _wants_table(request: Request) -> bool:
    return "as=Table" in request.headers.get("accept", "")


def _one(request: Request, kind: Kind, obj: Object, code: int = HTTPStatus.OK) -> Response:
    if _wants_table(request):
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return JSONResponse(table(kind, [obj], meta, request.query_params.get("includeObject", "Metadata")), code)
    return JSONResponse(obj, code)


def _scale(obj: Object) -> Object:
    meta = obj["metadata"]
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: meta[field] for field in kept if field in meta},
        "spec": {"replicas": obj["spec"].get("replicas", 0)},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }
