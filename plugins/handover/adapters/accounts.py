"""Roles and users in the database of Airflow's auth manager: made, or made to be as they should."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from handover.plan.airflow_roles import Right


class NotStored(RuntimeError):
    """Airflow's database did not take a change; the auth manager's log says why."""


@dataclass(frozen=True)
class Account:
    """Whoever signs in. ``follows``: whether the password is set again where it is another; otherwise it is that of a
    new account alone, and its owner's from then on.
    """

    name: str
    password: str = field(repr=False)
    roles: frozenset[str]
    follows: bool = False


class Accounts:
    """Of one Airflow; see `accounts`. Every call may be made twice. Those that change something raise `NotStored`."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    def roles(self) -> set[str]:
        """Of every kind, also Airflow's own."""
        return {role.name for role in self._manager.get_all_roles()}

    def users(self) -> dict[str, frozenset[str]]:
        """Each with the roles that it has."""
        return {one.username: frozenset(role.name for role in one.roles) for one in self._manager.get_all_users()}

    def set_role(self, name: str, rights: Collection[Right]) -> None:
        """Exactly these rights."""
        role = self._manager.add_role(name)
        role.permissions = [self._manager.create_permission(action, what) for action, what in sorted(rights)]
        self._manager.session.commit()

    def set_account(self, account: Account) -> str:
        """Exactly these roles, all of which are there; says what was done."""
        manager = self._manager
        roles = [manager.find_role(name) for name in sorted(account.roles)]
        user = manager.find_user(username=account.name)
        if user is None:
            address = f"{account.name}@localhost"  # has to be there and nobody else's; nothing is sent to it
            manager.add_user(account.name, account.name, "", address, roles, account.password)
            return "made"
        changed = []
        if {role.name for role in user.roles} != account.roles:
            user.roles = roles
            _stored(manager.update_user(user), account.name)
            changed.append("roles")
        if account.follows and not manager.check_password(account.name, account.password):
            _stored(manager.reset_password(user.id, account.password), account.name)
            changed.append("password")
        return f"{' and '.join(changed)} set" if changed else "as it should be"


def _stored(done: bool, name: str) -> None:
    if not done:
        raise NotStored(f"the account {name} could not be changed")


@contextmanager
def accounts() -> Iterator[Accounts]:
    """Those of the Airflow that this process is configured for, with Airflow's own roles in place. Raises what its
    database raises, also where its tables are not there.
    """
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    providers_configuration_loaded(lambda: None)()
    with get_application_builder() as builder:
        builder.sm.sync_roles()
        yield Accounts(builder.sm)


def password_of(connection_id: str) -> tuple[str, str]:
    """Login and password of one of Airflow's connections, "" for none. Raises `AirflowNotFoundException`."""
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(connection_id)
    return connection.login or "", connection.password or ""
