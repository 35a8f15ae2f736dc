"""An image registry: the reading half of the OCI distribution API over the catalogue of images.

`python -m sandbox.services.registry --host --port --catalogue FILE`, the credentials as JSON on standard input.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.hotel.build import MANIFEST_TYPE, manifest_bytes
from sandbox.processes import Process
from sandbox.services import ready
from sandbox.services.component import Component, Context
from sandbox.services.connections import REGISTRY_USER
from sandbox.settings import Settings


def catalogue(settings: Settings) -> Path:
    """The file that the hotel's build writes, and that the cluster and the registry read."""
    return settings.home / "images" / "images.json"


class Images:
    """The catalogue, read anew at every question: a release may be added at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _of(self, repository: str) -> list[dict[str, Any]]:
        """Entries of a repository, named with or without the registry in front, as a client names it."""
        entries = json.loads(self._path.read_text())["images"]
        return [e for e in entries if repository in (e["repository"], e["repository"].partition("/")[2])]

    def tags(self, repository: str) -> list[str]:
        return sorted(entry["tag"] for entry in self._of(repository))

    def find(self, repository: str, reference: str) -> dict[str, Any] | None:
        """By tag or by digest."""
        return next((e for e in self._of(repository) if reference in (e["tag"], e["digest"])), None)


class Credentials:
    """One user with one password, which as a bearer token does as well."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password

    def admit(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(value.encode(), self._password.encode())
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(value)
        except binascii.Error:
            return False
        return hmac.compare_digest(given, f"{self._user}:{self._password}".encode())


def create_app(images: Images, credentials: Credentials) -> Starlette:
    def refused(request: Request) -> Response | None:
        if credentials.admit(request.headers.get("authorization", "")):
            return None
        return _error(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": 'Basic realm="registry"'})

    async def base(request: Request) -> Response:
        return refused(request) or JSONResponse({}, headers={"Docker-Distribution-API-Version": "registry/2.0"})

    async def manifest(request: Request) -> Response:
        if answer := refused(request):
            return answer
        entry = images.find(request.path_params["name"], request.path_params["reference"])
        if entry is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return Response(
            manifest_bytes(entry), media_type=MANIFEST_TYPE, headers={"Docker-Content-Digest": entry["digest"]}
        )

    async def tags(request: Request) -> Response:
        name = request.path_params["name"]
        return refused(request) or JSONResponse({"name": name, "tags": images.tags(name)})

    return Starlette(
        routes=[
            Route("/v2/", base),
            Route("/v2/{name:path}/manifests/{reference}", manifest),
            Route("/v2/{name:path}/tags/list", tags),
        ]
    )


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status, headers)


class Registry(Component):
    """The registry on its address."""

    name = "registry"
    needs = ("images",)

    def start(self, context: Context) -> None:
        settings = context.settings
        argv = [
            sys.executable, "-m", "sandbox.services.registry", "--host", settings.host(self.name),
            "--port", str(settings.port(self.name)), "--catalogue", str(catalogue(settings)),
        ]  # fmt: skip
        login = json.dumps({"user": REGISTRY_USER, "password": settings.secrets.registry})
        process = context.own(Process(self.name, argv, settings.log(self.name), stdin=login))
        ready.until_answering(f"{settings.url(self.name)}/v2/", process)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.services.registry", description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--catalogue", type=Path, required=True)
    given = parser.parse_args()
    app = create_app(Images(given.catalogue), Credentials(**json.load(sys.stdin)))
    uvicorn.run(app, host=given.host, port=given.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
