"""Encrypts a backup with age before it leaves for S3, so that whoever may read the bucket reads nothing (plan 1.2).

What is read back says itself whether it is encrypted. By hand ``age --decrypt --identity KEYFILE FILE | pg_restore``
does the same; where a backup is packed, with ``zstd -dc`` between. Format: age-encryption.org/v1.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from handover.database.storage import READ_BYTES, BackupDamaged, Readable
from handover.models.readiness import ENCRYPTED

if TYPE_CHECKING:
    from handover.plan.backups import BackupRules


class BadKey(BackupDamaged):
    """With the keys that there are, nothing can be encrypted, or this backup not be opened."""


@dataclass(frozen=True)
class BackupKey:
    """What backups are encrypted and opened with.

    :param name: of the connection that has it
    :param secret: its password: identities of age (``AGE-SECRET-KEY-1...``), each on a line of its own or behind a
        comma, as age-keygen writes them. The first one encrypts, each opens.
    :param recipients: public keys of others who may open them
    """

    name: str
    secret: str = field(repr=False)
    recipients: tuple[str, ...] = ()

    def identities(self) -> list[Any]:
        """Raises `BadKey`, which quotes none."""
        import pyrage

        lines = (line.strip() for line in re.split(r"[\n,]", self.secret))
        wanted = [line for line in lines if line and not line.startswith("#")]
        try:
            found = [pyrage.x25519.Identity.from_str(one) for one in wanted]
        except pyrage.IdentityError:
            found = []
        if not found:
            form = "an identity of age (AGE-SECRET-KEY-1...), as age-keygen makes it"
            raise BadKey(f"the password of {self.name} is not {form}")
        return found

    def readers(self) -> list[Any]:
        """Whoever can open what is encrypted now. Raises `BadKey`."""
        import pyrage

        others = [pyrage.x25519.Recipient.from_str(one) for one in self.recipients]
        return [self.identities()[0].to_public(), *others]


def key_of(backups: BackupRules) -> BackupKey | None:
    """The plan's, None where backups leave as they are. Raises Airflow's error where nobody has made the connection."""
    from airflow.sdk import BaseHook

    if (rules := backups.encryption) is None:
        return None
    return BackupKey(rules.connection, BaseHook.get_connection(rules.connection).password or "", rules.recipients)


def told(key: BackupKey | None) -> str:
    """For the evidence of a backup."""
    if key is None:
        return "not encrypted before it left (backup.encryption in the plan): whoever may read the bucket can read it"
    others = f" and {len(key.recipients)} more" if key.recipients else ""
    return f"encrypted before it left, to be opened by {key.name}{others}"


@contextmanager
def encrypted(stream: Readable, key: BackupKey | None) -> Iterator[Readable]:
    """The stream, encrypted; what reading it raises comes through. Raises `BadKey`."""
    if key is None:
        yield stream
        return
    import pyrage

    readers, source = key.readers(), _Source(stream)
    piped = _Piped(lambda into: pyrage.encrypt_io(source, into, readers), source)
    with closing(piped):
        yield piped


@contextmanager
def decrypted(blocks: Generator[bytes], key: BackupKey | None) -> Iterator[Iterator[bytes]]:
    """What was encrypted; anything else as it is. At the end the blocks are closed.

    Raises `BadKey`, or `BackupDamaged` for what is not one whole file. Nothing is given away that was not written so:
    age looks at each 64 KiB before it gives them, and at the end whether it is the end.
    """
    with closing(blocks):
        first = next(blocks, b"")
        whole = chain([first], blocks)
        if not first.startswith(ENCRYPTED):
            yield whole
            return
        if key is None:
            raise BadKey("it is encrypted, and the plan names no key for it (backup.encryption)")
        source = _Source(_Blocks(whole))
        piped = _Piped(lambda into: _decrypt(source, into, key), source)
        try:
            yield iter(lambda: piped.read(READ_BYTES), b"")
        finally:
            piped.close()
            piped.join()  # it reads the blocks


def _decrypt(source: _Source, into: BinaryIO, key: BackupKey) -> None:
    import pyrage

    try:
        pyrage.decrypt_io(source, into, key.identities())
    except pyrage.DecryptError as error:
        raise BadKey(f"{key.name} does not open it: {error}") from error
    except OSError as error:
        raise BackupDamaged(f"what was encrypted cannot be opened: {error}") from error


class _Source:
    """A stream whose error is kept: age tells only its text."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as error:
            self.error = error
            raise


class _Blocks:
    """Blocks as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._block = blocks, memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        if not self._block:
            self._block = memoryview(next(self._blocks, b""))
        end = len(self._block) if size < 0 else size
        data, self._block = self._block[:end], self._block[end:]
        return bytes(data)


class _Piped:
    """What a function writes, to be read as a stream: it runs in a thread of its own, and never far ahead."""

    def __init__(self, work: Callable[[BinaryIO], None], source: _Source) -> None:
        out, into = os.pipe()
        self._reading = open(out, "rb", buffering=READ_BYTES)  # noqa: SIM115 - closed at the end of `with`
        self._source = source
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work, into), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[BinaryIO], None], into: int) -> None:
        try:
            with open(into, "wb") as writing:
                work(writing)
        except BaseException as error:  # whatever it is, who reads is told
            self._error = self._source.error or error

    def close(self) -> None:
        """Whoever still writes finds nobody; but it may be waiting for its own source."""
        self._reading.close()

    def join(self) -> None:
        self._thread.join()

    def read(self, size: int = -1) -> bytes:
        """All of the size but at the end. Raises what the function raised."""
        data = self._reading.read(size)
        if size < 0 or len(data) < size:
            self.join()
            if self._error:
                raise self._error
        return data
