"""Passwords and bearer tokens."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from dataclasses import dataclass

import jwt

TOKEN_SECONDS = 12 * 3600
"""Longer than a deployment with its soak, so that a token outlives the switch between two versions."""

_SCRYPT = {"n": 2**10, "r": 8, "p": 1}
"""A tenth of what OWASP asks for: about 3 ms and 1 MB for a login, because a sandbox shares two cores."""

NO_PASSWORD = "!"
"""Stored instead of a hash: nobody can log in with a password."""


def hash_password(password: str) -> str:
    """Salted hash in the form `scrypt$<salt hex>$<hash hex>`."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT).hex()}"


def verify_password(password: str, stored: str) -> bool:
    """Whether the password fits the stored hash; False for anything that is not a hash of ours."""
    parts = stored.split("$")
    if len(parts) != 3 or parts[0] != "scrypt":
        return False
    digest = hashlib.scrypt(password.encode(), salt=bytes.fromhex(parts[1]), **_SCRYPT)
    return hmac.compare_digest(digest.hex(), parts[2])


def same_secret(given: str, expected: str) -> bool:
    """Compare in constant time; an empty expected secret fits nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


@dataclass(frozen=True)
class Identity:
    """Who a bearer token speaks for."""

    user_id: int
    role: str
    token_id: str
    expires_at: float
    """Unix time in seconds."""

    @property
    def sees_all(self) -> bool:
        """Staff work with everybody's bookings, guests with their own."""
        return self.role in ("staff", "admin")


def issue_token(secret: str, user_id: int, role: str, seconds: float = TOKEN_SECONDS) -> str:
    """A signed bearer token (JWT, HS256)."""
    now = time.time()
    claims = {"sub": str(user_id), "role": role, "jti": str(uuid.uuid4()), "iat": now, "exp": now + seconds}
    return jwt.encode(claims, secret, algorithm="HS256")


def read_token(secret: str, token: str) -> Identity | None:
    """The identity in a token that is signed by us and has not expired, else None."""
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["sub", "role", "jti", "exp"]})
        return Identity(int(claims["sub"]), str(claims["role"]), str(claims["jti"]), float(claims["exp"]))
    except (jwt.InvalidTokenError, ValueError):
        return None
