"""Where the public Service is, and the token that its pods ask for before they drain."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Api:
    url: str
    token: str = field(default="", repr=False)


async def api(connection_id: str) -> Api:
    """From an Airflow connection; usable in tasks and in the triggerer."""
    from airflow.providers.common.compat.connection import get_async_connection

    from pms.http import base_url

    connection = await get_async_connection(connection_id)
    return Api(base_url(connection), connection.password or "")
