"""What the programs that we start see of our environment, in which every connection and key lies: nothing of those."""

from __future__ import annotations

import os

KNOWN = frozenset(
    {
        "HOME", "KRB5CCNAME", "KRB5_CONFIG", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "SSL_CERT_DIR",
        "SSL_CERT_FILE", "TMPDIR", "TZ", "USER",
    }
)  # fmt: skip
"""What a program needs to run at all, and LC_*."""
OURS = ("AIRFLOW", "_AIRFLOW", "HANDOVER_")
"""How names begin that are Airflow's and our own."""


def harmless() -> dict[str, str]:
    """For a program whose every setting we give it."""
    return {name: value for name, value in os.environ.items() if name in KNOWN or name.startswith("LC_")}


def not_ours() -> dict[str, str]:
    """For a program that somebody else has chosen, which finds its own credentials by its own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
