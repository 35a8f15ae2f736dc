"""What is run of a release's image for its database: its migrations are read, and Prisma runs them. Jobs on a twin."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handover.database import release
from handover.database.migrations import BundleError
from handover.database.operators import Migrate
from handover.database.release import BEGIN, END
from handover.kube import jobs
from handover.plan.model import Plan
from tests.database.conftest import connections, fill
from tests.support import steps
from tests.support.cluster import image, plan_with
from tests.support.postgres import Servers
from tests.twins.beside import cluster_in_memory
from tests.twins.kube import TwinCluster

IMAGE = image("v1.1.0")
NAME = "20260101_a"


def packed(**scripts: str | tuple[str, str]) -> str:
    """What a release prints that has these migrations: ``name="SQL"`` or ``name=("SQL", "down SQL")``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, texts in scripts.items():
            pair = (texts,) if isinstance(texts, str) else texts
            for file, sql in zip(("migration.sql", "down.sql"), pair, strict=False):
                info = tarfile.TarInfo(f"{name}/{file}")
                info.size = len(sql)
                tar.addfile(info, io.BytesIO(sql.encode()))
    return f"{BEGIN}\n{base64.encodebytes(gzip.compress(out.getvalue())).decode()}{END}\n"


class Release:
    """The programs of a release's image; ``prints`` and ``migrates``: exit code and output of the next ones."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.prints = [(0, packed(**{NAME: "CREATE TABLE a (id int)"}))]
        self.migrates: Callable[[], tuple[int, str]] = lambda: (0, "")

    def __call__(self, _image: str, argv: list[str]) -> tuple[int, str]:
        self.ran.append(argv[0])
        if argv[0] == "npx":
            return self.migrates()
        return self.prints.pop(0) if len(self.prints) > 1 else self.prints[0]


@pytest.fixture
def inside() -> Release:
    return Release()


@pytest.fixture
def twin(inside: Release) -> Iterator[TwinCluster]:
    with cluster_in_memory(program=inside) as made:
        yield made


@pytest.fixture
def shop(tmp_path: Path) -> Plan:
    return plan_with(tmp_path, migration={"counted_tables": ["customers"]})


# --- its migrations


def read(twin: TwinCluster, plan: Plan, key: str = "a deployment") -> tuple[str, ...]:
    return asyncio.run(release.bundle(twin.client(), plan, IMAGE, key)).names


def test_the_migrations_of_an_image_are_read_once_for_all_steps_of_a_deployment(twin, shop, inside):
    assert read(twin, shop) == read(twin, shop) == (NAME,)
    assert inside.ran == ["sh"]
    read(twin, shop, "another deployment")
    assert inside.ran == ["sh", "sh"]


def test_the_job_that_only_reads_migrations_has_no_secret(twin, shop):
    read(twin, shop)
    (job,) = asyncio.run(twin.client().list(jobs.JOBS))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "envFrom" not in container
    assert shop.cluster.settings_secret not in str(job)


def test_an_answer_that_cannot_be_read_is_asked_for_again(twin, shop, inside):
    inside.prints = [(1, "no space"), (0, "nothing"), *inside.prints]
    assert read(twin, shop) == read(twin, shop) == (NAME,)
    assert inside.ran == ["sh"] * 3


def test_an_image_without_migrations_is_refused_with_its_own_words_and_a_new_try_asks_anew(twin, shop, inside):
    good, inside.prints = inside.prints, [(1, "tar: prisma/migrations: No such file")]
    with pytest.raises(BundleError, match="cannot be read: tar: prisma/migrations: No such file"):
        read(twin, shop)
    assert inside.ran == ["sh"] * 3
    inside.prints = good
    assert read(twin, shop) == (NAME,)


def test_an_image_that_does_not_start_is_refused_with_the_clusters_reason(twin, shop, monkeypatch):
    monkeypatch.setattr("handover.kube.reasons.PATIENCE_SECONDS", 0.0)
    twin.missing_images.add(IMAGE)
    with pytest.raises(BundleError, match="ImagePullBackOff"):
        read(twin, shop)


def test_an_image_by_tag_is_not_even_asked(twin, shop, inside):
    with pytest.raises(BundleError, match="is not given by digest"):
        asyncio.run(release.bundle(twin.client(), shop, "registry.example.com/shop/web:v1.1.0", "k"))
    assert inside.ran == []


# --- Prisma


@pytest.fixture
def migrate(
    twin: TwinCluster, shop: Plan, replicated: Servers, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], steps.Ran]:
    """The step, with the release's own Prisma, on a real database."""
    connections(monkeypatch, replicated.copy("shop", "owner", fill), replicated)
    token = asyncio.run(steps.opened(twin.client(), shop.lock_name, IMAGE))
    asked = steps.release(IMAGE).model_copy(update={"method": "prisma"})
    return lambda: steps.run(Migrate(task_id="migrate", plan=shop), token, asked)


def test_prisma_that_fails_is_told_with_what_is_missing_the_reason_and_its_words(migrate, inside):
    inside.migrates = lambda: (1, "Error: P1001 no server")
    ran = migrate()
    assert not ran.evidence.passed
    assert ran.evidence.reason == (
        f"{NAME} is not applied; Job has reached the specified backoff limit; Error: P1001 no server"
    )


def test_prisma_that_ends_well_and_has_applied_nothing_does_not_pass(migrate, inside):
    assert migrate().evidence.reason == f"{NAME} is not applied"


def test_the_prisma_of_a_killed_try_is_waited_for_instead_of_run_twice(migrate, inside, monkeypatch):
    waiting, killed = jobs.wait, []

    async def kill_once(kube: Any, name: str, deadline: float) -> jobs.JobEnd:
        if "prisma" in name and not killed:
            killed.append(name)
            raise KeyboardInterrupt
        return await waiting(kube, name, deadline)

    monkeypatch.setattr(jobs, "wait", kill_once)
    inside.migrates = lambda: (1, "it failed")
    with pytest.raises(KeyboardInterrupt):
        migrate()
    assert "it failed" in migrate().evidence.reason
    assert inside.ran == ["sh", "npx"]
    assert "it failed" in migrate().evidence.reason  # cleared by a person: its answer was read, so it is asked anew
    assert inside.ran == ["sh", "npx", "npx"]
