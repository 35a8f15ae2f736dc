from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import locales
from handover.database.locales import Locale
from handover.database.restore import scratch_database
from tests.support.postgres import Servers

ABROAD = Locale("UTF8", "xx_XX.utf8", "xx_XX.utf8")


@pytest.mark.parametrize(
    ("locale", "major", "clause"),
    [
        (Locale("UTF8", "de_DE.utf8", "C"), 14, " ENCODING 'UTF8' LC_COLLATE 'de_DE.utf8' LC_CTYPE 'C'"),
        (Locale("UTF8", "C", "C"), 15, " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc"),
        (Locale("UTF8", "C", "C", "builtin", "C.UTF-8"), 17,
         " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
        (Locale("UTF8", "C", "C", "icu", "de-AT", "&a < g"), 16,
         " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' ICU_RULES '&a < g'"),
    ],
)  # fmt: skip
def test_what_a_server_is_asked_for(locale: Locale, major: int, clause: str) -> None:
    assert locale.clause(major).as_string(None) == clause


@pytest.mark.parametrize("made", ["LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'", "ENCODING 'LATIN1'"])
def test_a_copy_has_its_original_s_locale(servers: Servers, made: str) -> None:
    name = f"abroad{len(made)}"
    servers.ask(servers.primary, f"CREATE DATABASE {name} OWNER owner TEMPLATE template0 {made}")
    with scratch_database(servers.owned("postgres"), f"{name}_copy", like=servers.owned(name)) as copy:
        assert locales.missing(copy, servers.owned(name)) == ""
        with copy.connect() as there, servers.owned(name).connect() as here:
            assert locales.of(there) == locales.of(here)


def test_a_locale_that_the_server_lacks_is_named(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    real = locales.of

    def of(connection: psycopg.Connection[object], which: str | None = None) -> Locale:
        found = real(connection, which)
        return ABROAD if which is None and connection.info.dbname == database.name else found

    monkeypatch.setattr(locales, "of", of)
    with scratch_database(database, f"{database.name}_abroad", like=database) as copy:
        said = locales.missing(copy, database)
    assert said == "the locale xx_XX.utf8 of libc in UTF8 (this server lacks it, so it came back in C of libc in UTF8)"


def test_who_may_make_no_database_is_told_so(servers: Servers, database: Database) -> None:
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        scratch_database(replace(database, user="record"), "nobody_s", like=servers.latin("record")),
    ):
        pass
