"""The page's own files: what lies in ``static/``, read once, under the names that were found there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Request, Response

from handover.workflows.rollback.routes import User

ICON, DARK_ICON = "icon.svg", "icon-dark.svg"
FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip
"""By ending; what has another one is not given out."""
SAFE = {  # of every answer
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ASK_AGAIN, A_DAY = "private, no-cache", "private, max-age=86400"
router = APIRouter()


@dataclass(frozen=True)
class Asset:
    """``tag``: changes when the bytes do."""

    body: bytes
    kind: str
    tag: str
    cache: str


def found(folder: Path = FOLDER) -> dict[str, Asset]:
    """By name below the folder; libraries, which change with a release at most, are kept for a day."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in TYPES]
    return {(name := path.relative_to(folder).as_posix()): _asset(name, path) for path in files}


def _asset(name: str, path: Path) -> Asset:
    body = path.read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return Asset(body, TYPES[path.suffix], tag, A_DAY if name.startswith("vendor/") else ASK_AGAIN)


@router.get("/")
async def index(request: Request, _: User, known: Annotated[str, Header(alias="If-None-Match")] = "") -> Response:
    return _given(request, "index.html", known)


@router.get("/static/{name:path}")
async def static(
    request: Request, name: str, _: User, known: Annotated[str, Header(alias="If-None-Match")] = ""
) -> Response:
    return _given(request, name, known)


def _given(request: Request, name: str, known: str) -> Response:
    asset: Asset | None = request.app.state.files.get(name)
    if asset is None:
        raise HTTPException(404, "there is no such file")
    headers = {"ETag": asset.tag, "Cache-Control": asset.cache}
    if asset.tag in (one.strip().removeprefix("W/") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.kind, headers=headers)
