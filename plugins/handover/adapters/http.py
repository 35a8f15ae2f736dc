"""Plain HTTP through an Airflow connection: its address and its credentials, nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from handover.models.annotations import AGENT
from handover.ports.public import MAX_BODY_BYTES, MAX_WHOLE_BYTES

if TYPE_CHECKING:
    import aiohttp
    from airflow.sdk import Connection
    from requests import Response
    from yarl import URL

MAX_REDIRECTS = 5
MAX_HEADER_BYTES = 2**16
"""Of one line or one header: a policy or a cookie may be long, and browsers take as much and more."""
CHUNK_BYTES = 2**16


def base_url(connection: Connection) -> str:
    """``http://host:port/path`` of a connection, without a trailing slash. One that names no scheme, which Airflow's
    type ``http`` is not, is asked by https as soon as it has something to keep secret, except on this machine.

    What Airflow calls the schema is the path of a connection's URI; it is a scheme where it is the name of one.
    """
    host, schema = (connection.host or "").strip(), connection.schema or ""
    scheme, path = (schema.lower(), "") if schema.lower() in ("http", "https") else ("", schema)
    if _is_bare_ipv6(host):
        host = f"[{host}]"
    if "://" not in host:
        host = f"{scheme or _scheme(connection, host)}://{host}"
    scheme, _, rest = host.partition("://")
    at, _, below = rest.partition("/")
    if connection.port and ":" not in at.rpartition("@")[2].rpartition("]")[2]:
        at = f"{at}:{connection.port}"
    return "/".join([f"{scheme}://{at}", *(part for part in (below.strip("/"), path.strip("/")) if part)])


def _is_bare_ipv6(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _scheme(connection: Connection, host: str) -> str:
    secret = connection.password or (connection.extra or "{}") != "{}"
    return "http" if connection.conn_type == "http" and (not secret or is_loopback(host)) else "https"


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host, perhaps with a port and a path, stays on this machine."""
    return names_loopback(urlsplit(f"//{host}").hostname or "")


def names_loopback(name: str) -> bool:
    """The same of a host's name or address alone."""
    import ipaddress

    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost" or name.lower().endswith(".localhost")


def call(
    connection_id: str, method: str, path: str, *, bearer: bool = True, headers: dict[str, str] | None = None,
    json: Any = None, timeout: float = 10.0,
) -> Response:  # fmt: skip
    """`request` through the connection of this id."""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(connection_id)
    return request(connection, method, path, bearer=bearer, headers=headers, json=json, timeout=timeout)


def request(
    connection: Connection, method: str, path: str, *, bearer: bool = True, headers: dict[str, str] | None = None,
    json: Any = None, timeout: float = 10.0,
) -> Response:  # fmt: skip
    """One request; the connection's login and password as basic auth, or its password alone as a token: a bearer's, or
    with the ``authorization_scheme`` of the connection's extra (Statuspage takes ``OAuth`` and nothing else).

    Raises `requests.RequestException` when there is no answer, and `requests.HTTPError` for a status of 300 or more: a
    redirect to another host is followed by no request with a body, and by others without credentials.
    """
    import requests

    from handover.adapters.straight import Straight

    headers = dict(headers or {})
    auth = (connection.login, connection.password) if connection.login and connection.password else None
    if auth is None and bearer and connection.password:
        scheme = connection.extra_dejson.get("authorization_scheme", "Bearer")
        headers["Authorization"] = f"{scheme} {connection.password}"
    with Straight() as session:
        response = session.request(
            method, f"{base_url(connection)}{path}", json=json, headers=headers, auth=auth, timeout=timeout
        )
    response.raise_for_status()
    if response.status_code >= 300:
        raise requests.HTTPError(f"{response.status_code}, a redirect, which is not followed", response=response)
    return response


def new_clients(connector: aiohttp.TCPConnector, **how: Any) -> aiohttp.ClientSession:
    """For requests that are each a new client's: none takes a cookie of another with it, by which what lies before a
    service would keep them all with one pod, and none is to be answered from a cache.
    """
    import aiohttp

    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": AGENT, "Cache-Control": "no-cache"},
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        **how,
    )


@asynccontextmanager
async def get(
    http: aiohttp.ClientSession, url: str, headers: dict[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """What a service answers to a GET, as the kubelet sees it: redirects are followed to the same host, where the
    service still has to answer; one that leads elsewhere is its answer. Our headers, and the cookies that we were given
    on the way, never leave the origin.

    Raises `aiohttp.ClientError` and `TimeoutError`.
    """
    import aiohttp
    from yarl import URL

    where, headers, cookies = URL(url), headers or {}, dict[str, str]()
    for _ in range(MAX_REDIRECTS + 1):
        async with http.get(str(where), headers=headers, allow_redirects=False) as answer:
            further = _further(where, answer.headers.get("Location")) if 300 <= answer.status <= 399 else None
            if further is None:
                yield answer
                return
            cookies |= {name: cookie.coded_value for name, cookie in answer.cookies.items()}
        if further.origin() != where.origin():
            headers, cookies = {}, {}
        if cookies:
            headers = {**headers, "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        where = further
    raise aiohttp.ClientError(f"more than {MAX_REDIRECTS} redirects")


async def beginning_of(answer: aiohttp.ClientResponse) -> str:
    """The first `MAX_BODY_BYTES` of a body as text. The rest is read as well, since an answer is good when it is whole,
    but not kept; one of more than `MAX_WHOLE_BYTES` is none. Raises `aiohttp.ClientError`.
    """
    import aiohttp

    kept, seen = b"", 0
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        kept, seen = kept + chunk[: MAX_BODY_BYTES - len(kept)], seen + len(chunk)
        if seen > MAX_WHOLE_BYTES:
            answer.close()
            raise aiohttp.ClientPayloadError(f"the answer is larger than {MAX_WHOLE_BYTES} bytes")
    return kept.decode(errors="replace")


def _further(where: URL, location: str | None) -> URL | None:
    """Where a redirect leads, if to the same host."""
    from yarl import URL

    try:
        further = where.join(URL(location)) if location else None
    except ValueError:
        return None
    same = further is not None and further.host == where.host and further.scheme in ("http", "https")
    return further if same else None
