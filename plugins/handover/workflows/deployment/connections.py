"""The Airflow connections that a plan names: which are missing, lead to whoever answers first, or hold no key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from handover.plan.model import Plan


@dataclass(frozen=True)
class Found:
    """``missing``: connections that nobody has made; ``unverified``: databases for which somebody on the way could
    answer, by connection, and why; ``accepted``: those of them that the plan takes all the same; ``no_key``: why
    nothing can be encrypted with the plan's key, "" where it can.
    """

    missing: tuple[str, ...]
    unverified: dict[str, str]
    accepted: frozenset[str]
    no_key: str = ""

    @property
    def problem(self) -> str:
        """Why nothing may be deployed with them, "" where it may."""
        if self.missing:
            return (
                f"missing Airflow connections: {', '.join(self.missing)}; add them under Admin > Connections or with "
                "`airflow connections add`"
            )
        if refused := {name: why for name, why in self.unverified.items() if name not in self.accepted}:
            return (
                f"anybody on the way could answer for the database of {_told(refused)}: say no sslmode, which is "
                "verify-full, with sslrootcert for an authority of your own, or name it in the plan's "
                "transport.unverified"
            )
        return self.no_key

    @property
    def said(self) -> str:
        """What the plan accepts, to be said in every deployment; "" for nothing."""
        return f"; not verified, as the plan accepts: {_told(self.unverified)}" if self.unverified else ""


def connections_of(plan: Plan) -> Found:
    """Looks each one up, once."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    missing, unverified = [], dict[str, str]()
    for name in plan.connections:
        try:
            if why := _unverified(BaseHook.get_connection(name)):
                unverified[name] = why
        except AirflowNotFoundException:
            missing.append(name)
    return Found(tuple(missing), unverified, plan.transport.unverified, "" if missing else _no_key(plan))


def _no_key(plan: Plan) -> str:
    from handover.database.encryption import BadKey, key_of

    try:
        if plan.backup and (key := key_of(plan.backup)):
            key.readers()
    except BadKey as error:
        return f"no backup could be encrypted: {error}"
    return ""


def _unverified(connection: Connection) -> str:
    from handover.adapters.postgres import VARIABLES, Database

    if not (connection.conn_type or "").startswith("postgres"):
        return ""
    extra = connection.extra_dejson
    unknown = [f"unknown {key}" for key in extra if key.lower().startswith("ssl") and key not in VARIABLES]
    return ", ".join(filter(None, (Database.of(connection, extra).unverified, *unknown)))


def _told(unverified: dict[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in unverified.items())
