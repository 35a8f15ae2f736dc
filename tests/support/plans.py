"""Plans that leave things out."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from handover.plan.model import INCLUDE

PMS = yaml.safe_load((INCLUDE / "plans" / "pms.yaml").read_text())
CHANNELS = ("slack", "status_page", "email", "ticket")


def without(*keys: str) -> dict[str, Any]:
    data = copy.deepcopy(PMS)
    for key in keys:
        *sections, name = key.split(".")
        place = data
        for section in sections:
            place = place[section]
        for one in [one for one in place if one == name or one.startswith(f"{name}_")]:
            del place[one]
    return data


def bare() -> dict[str, Any]:
    """As little as a plan can be."""
    data = without(
        "staging", "backup", "banner", "migration", "rehearsal", "functional", "data", "announcements", "followups",
        "record", "messages.deployments_channel", "messages.incidents_channel", "health.login_path",
        "health.error_tracker", "health.database_command", "health.client_command", "traffic.smoke_command",
        *(f"messages.{channel}" for channel in CHANNELS), "messages.stakeholders", "messages.users",
    )  # fmt: skip
    del data["health"]["max_new_errors"]
    return data
