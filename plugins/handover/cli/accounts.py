"""Roles and accounts of Airflow: ``python -m handover accounts``, whenever ``airflow db migrate`` has run.

Makes the roles of every plan (docs/security.md), or gives those that are there exactly their rights. Then the account
behind each plan's Airflow connection: its password becomes the connection's. Then people, from the variable
HANDOVER_ACCOUNTS: {"<name>": {"password": "...", "roles": ["Viewer", "<plan>_approver", ...]}}. Their roles become
these; the password is a new account's, and its owner's from then on. Nobody is removed.

Exit codes: 0 done, 1 refused and nothing changed, 2 Airflow's database did not answer.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from handover.adapters.accounts import Account, NotStored, accounts, password_of
from handover.models.evidence import Frozen
from handover.plan.airflow_roles import VIEWER, approver, automation, roles_of
from handover.plan.load import PlanError, load_plans
from handover.plan.model import Plan

VARIABLE = "HANDOVER_ACCOUNTS"
MIN_PASSWORD = 12
"""Characters of a first password."""


class Refused(ValueError):
    """Something given does not fit; nothing was changed."""


class Person(Frozen):
    """Somebody who signs in."""

    password: Annotated[SecretStr, Field(min_length=MIN_PASSWORD)]
    roles: Annotated[frozenset[str], Field(min_length=1)]


_PEOPLE = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,64}$")], Person])


def main(command: str, argv: list[str]) -> int:
    from airflow.sdk.exceptions import AirflowNotFoundException
    from sqlalchemy.exc import SQLAlchemyError

    argparse.ArgumentParser(
        prog=f"python -m handover {command}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    try:
        plans = _plans()
        settle(plans, [*machines(plans), *people(os.environ.get(VARIABLE, ""))])
    except (PlanError, Refused, AirflowNotFoundException) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except (SQLAlchemyError, NotStored) as error:
        said = error if isinstance(error, NotStored) else type(error).__name__
        print(f"Airflow's database did not take it: {said}", file=sys.stderr)
        return 2
    return 0


def _plans() -> list[Plan]:
    found = list(load_plans())
    for one in found:
        if isinstance(one, PlanError):
            raise one
    return [one for one in found if isinstance(one, Plan)]


def people(given: str) -> list[Account]:
    """What HANDOVER_ACCOUNTS says; "" is nobody. Raises `Refused`, which repeats nothing of what was given."""
    try:
        read = _PEOPLE.validate_json(given or "{}")
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'][:2]))}: {one['msg']}" for one in error.errors())
        raise Refused(f"{VARIABLE}: {wrong}") from None
    return [Account(name, one.password.get_secret_value(), one.roles) for name, one in read.items()]


def machines(plans: Sequence[Plan]) -> list[Account]:
    """The accounts behind the plans' Airflow connections; several plans may share one. Raises `Refused`."""
    found: dict[str, Account] = {}
    for plan in plans:
        connection = plan.rollback.airflow_connection
        name, password = password_of(connection)
        if not name or not password:
            raise Refused(f"connection {connection} has no login, or no password")
        known = found.get(name, Account(name, password, frozenset({VIEWER}), follows=True))
        if known.password != password:
            raise Refused(f"two connections give {name} two passwords, the second is {connection}")
        found[name] = Account(name, password, known.roles | {automation(plan)}, follows=True)
    return list(found.values())


def settle(plans: Sequence[Plan], wanted: Sequence[Account]) -> None:
    """Makes it so, and says what was done and what is missing. Raises `Refused` before anything was changed."""
    roles = {name: rights for plan in plans for name, rights in roles_of(plan).items()}
    with accounts() as there:
        if wrong := "; ".join(problems(wanted, there.users(), there.roles() | set(roles))):
            raise Refused(wrong)
        for name, rights in roles.items():
            there.set_role(name, rights)
        for account in wanted:
            print(f"{account.name}: {there.set_account(account)}")
        for line in missing(plans, there.users()):
            print(line, file=sys.stderr)


def problems(wanted: Sequence[Account], there: Mapping[str, frozenset[str]], roles: set[str]) -> Iterator[str]:
    """Why nothing is done: people and machines that are taken for one another, and roles that are not there."""
    names = {name.lower(): name for name in there}
    seen: set[str] = set()
    for account in wanted:
        if account.name.lower() in seen:
            yield f"{account.name} is there twice, or is a person's and a connection's"
        seen.add(account.name.lower())
        if (known := names.get(account.name.lower(), account.name)) != account.name:
            yield f"{account.name}: there is {known}, and Airflow takes one for the other"
        if unknown := account.roles - roles:
            yield f"{account.name}: there is no role {', '.join(sorted(unknown))}"
        if account.follows and not there.get(account.name, frozenset()) <= account.roles:
            yield f"{account.name} is the login of a connection, and somebody with other roles"


def missing(plans: Sequence[Plan], there: Mapping[str, frozenset[str]]) -> list[str]:
    """Who is asked by a plan and could not answer."""
    return [
        f"{user} is asked by plan {plan.name} ({role}), and {'may not answer' if user in there else 'has no account'}"
        for plan in plans
        for role, one in plan.team.items()
        for user in one.users
        if approver(plan) not in there.get(user, frozenset())
    ]
