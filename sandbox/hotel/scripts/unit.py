"""`npm test`: the functions of the service that need no database."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from datetime import date
from typing import Any

from sandbox.hotel import schema, security, validation
from sandbox.hotel.settings import Settings, SettingsError, plain_dsn


class Validation(unittest.TestCase):
    def refused(self, call: Callable[..., Any], *args: Any) -> None:
        with self.assertRaises(validation.Invalid):
            call(*args)

    def test_a_booking_is_read(self) -> None:
        body = {"roomId": "123", "checkIn": "2024-12-25", "checkOut": "2024-12-27"}
        stay = validation.new_booking(body)
        self.assertEqual((stay.room_id, stay.check_in, stay.nights), (123, date(2024, 12, 25), 2))

    def test_wrong_stays_are_refused(self) -> None:
        for first, last in (("2024-12-25", "2024-12-25"), ("2024-12-25", "x"), ("2024-02-30", "2024-03-02"), (1, 2)):
            self.refused(validation.stay, first, last)

    def test_wrong_keys_are_refused(self) -> None:
        wrong: list[Any] = [None, True, 0, -1, 1.0, "x", "-1", "", "9" * 30, 2**63, []]
        for value in wrong:
            self.refused(validation.identifier, value, "id")

    def test_wrong_amounts_are_refused(self) -> None:
        for value in (None, True, 0, -1, "1", float("nan"), float("inf"), 1e12, 0.001):
            self.refused(validation.amount, {"amount": value})

    def test_wrong_emails_are_refused(self) -> None:
        for value in (None, "", "x", "x@y", "@y.z", "a b@c.d", "a\0@c.d", "a" * 300 + "@c.d"):
            self.refused(validation.email, {"email": value})


class Security(unittest.TestCase):
    def test_passwords(self) -> None:
        stored = security.hash_password("one")
        self.assertTrue(security.verify_password("one", stored))
        self.assertFalse(security.verify_password("two", stored))
        self.assertFalse(security.verify_password("!", security.NO_PASSWORD))

    def test_tokens(self) -> None:
        token = security.issue_token("k" * 64, 7, "guest")
        identity = security.read_token("k" * 64, token)
        self.assertEqual((identity and identity.user_id, identity and identity.role), (7, "guest"))
        self.assertIsNone(security.read_token("o" * 64, token))
        self.assertIsNone(security.read_token("k" * 64, security.issue_token("k" * 64, 7, "guest", seconds=-1)))
        self.assertIsNone(security.read_token("k" * 64, "not.a.token"))


class Set(unittest.TestCase):
    def test_a_missing_setting_has_a_name(self) -> None:
        with self.assertRaisesRegex(SettingsError, "JWT_SECRET"):
            Settings.from_env({"DATABASE_URL": "postgresql://x/y"})

    def test_prisma_parameters_are_dropped(self) -> None:
        dsn = plain_dsn("postgresql://u@h:1/d?schema=public&sslmode=disable")
        self.assertEqual(dsn, "postgresql://u@h:1/d?sslmode=disable")

    def test_versions_compare_as_numbers(self) -> None:
        self.assertGreater(schema.version_key("v1.10.0"), schema.version_key("v1.9.9"))
        self.assertFalse(schema.optional("v1.0.0"))


def main(_: str, __: list[str]) -> int:
    suite = unittest.defaultTestLoader.loadTestsFromName(__name__)
    return 0 if unittest.TextTestRunner().run(suite).wasSuccessful() else 1
