"""Hashes of passwords as the service stores them, for accounts that a seed creates."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Literal

from handover.plan.parts import Count, Section


class PasswordHash(Section):
    """How the service hashes: ``scrypt$<salt hex>$<hash hex>`` with these costs."""

    scheme: Literal["scrypt"]
    n: Count
    r: Count
    p: Count

    def make(self, password: str) -> str:
        return self._text(password, secrets.token_bytes(16))

    def fits(self, password: str, stored: str) -> bool:
        """Whether ``stored`` is a hash of this password; False for anything that is no hash of this scheme."""
        parts = stored.split("$")
        try:
            salt = bytes.fromhex(parts[1]) if len(parts) == 3 else b""
        except ValueError:
            return False
        return hmac.compare_digest(self._text(password, salt), stored)

    def _text(self, password: str, salt: bytes) -> str:
        digest = hashlib.scrypt(password.encode(), salt=salt, n=self.n, r=self.r, p=self.p, maxmem=2**30)
        return f"{self.scheme}${salt.hex()}${digest.hex()}"
