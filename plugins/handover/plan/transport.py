"""How what goes over a network is kept from whoever is on the way."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from handover.plan.parts import Section


class Transport(Section):
    unverified: frozenset[Annotated[str, StringConstraints(min_length=1)]] = frozenset()
    """Connections of databases off this machine whose server is taken for whoever answers, on purpose: those that say
    ``sslmode`` ``disable``, ``allow``, ``prefer`` or ``require``. Any other one that does so is refused."""
