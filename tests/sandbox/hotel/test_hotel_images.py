"""The images: their digests, their work folders, and the scripts of their npm."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox.hotel import seed
from sandbox.hotel.build import build, manifest_bytes
from sandbox.hotel.releases import CHANNEL, RELEASES
from sandbox.hotel.scripts.e2e import serving
from tests.sandbox.hotel.conftest import PASSWORD, environment, settings
from tests.sandbox.hotel.test_hotel_schema import migrate

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The catalogue's entries by tag."""
    out = tmp_path_factory.mktemp("images")
    build(out)
    return {one["tag"]: one for one in json.loads((out / "images.json").read_text())["images"]}


def npm(image: dict[str, Any], *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the image's npm as its container would."""
    return subprocess.run(
        [Path(image["path"][0]) / "npm", *words], cwd=image["workdir"], check=False,
        env=environment(env.pop("DATABASE_URL", ""), **image["env"], **env),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip


def test_the_catalogue_has_every_release(images: dict[str, dict[str, Any]]) -> None:
    assert list(images) == [*(release.tag for release in RELEASES), "v1"]
    assert len({image["digest"] for image in images.values()}) == len(images)
    for release in RELEASES:
        folder = Path(images[release.tag]["workdir"]) / "prisma" / "migrations"
        found = sorted(path.parent.name for path in folder.glob("*/migration.sql"))
        assert found == list(release.migrations)
        assert all((folder / name / "down.sql").exists() for name in found)


def test_digests_are_those_of_the_manifests_and_stay_the_same(images: dict[str, dict[str, Any]]) -> None:
    for image in images.values():
        assert image["digest"] == "sha256:" + hashlib.sha256(manifest_bytes(image)).hexdigest()
    again = build(Path(images["v1.0.0"]["workdir"]).parent)
    assert [one["digest"] for one in again["images"]] == [image["digest"] for image in images.values()]


@pytest.mark.plan("npm test # Unit tests", "npm run lint && npm run type-check && npm test")
def test_npm_test(images: dict[str, dict[str, Any]]) -> None:
    done = npm(images["v1.1.0"], "test")
    assert done.returncode == 0, done.stderr


@pytest.mark.plan("npm run test:integration", "npm run test:e2e")
@pytest.mark.parametrize("script", ["test:integration", "test:e2e"])
def test_npm_tests_with_a_database(images: dict[str, dict[str, Any]], database: str, script: str) -> None:
    counts = tables(database)
    done = npm(images["v1.1.0"], "run", script, DATABASE_URL=database)
    assert done.returncode == 0, done.stdout
    assert tables(database) == counts
    broken = npm(images["v1.1.0"], "run", script, DATABASE_URL="postgresql://postgres@127.0.0.1:1/x")
    assert broken.returncode == 1
    assert "FAILED" in broken.stdout


def tables(dsn: str) -> tuple[Any, ...]:
    import psycopg

    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM bookings), (SELECT count(*) FROM payments), "
            "(SELECT count(*) FROM magic_links)"
        ).fetchone()
    assert row is not None
    return row


@pytest.mark.plan("npm run test:smoke", "npm run test:smoke -- --url")
@pytest.mark.parametrize("login", [{}, {"SMOKE_EMAIL": seed.TEST_EMAIL, "SMOKE_PASSWORD": PASSWORD}])
def test_npm_smoke_test(images: dict[str, dict[str, Any]], database: str, login: dict[str, str]) -> None:
    with serving(settings(database)) as url:
        done = npm(images["v1.1.0"], "run", "test:smoke", "--", "--url", url, **login)
    assert done.returncode == 0, done.stdout


@pytest.mark.plan("Smoke tests pass on green environment")
def test_npm_smoke_test_names_what_fails(images: dict[str, dict[str, Any]], database: str) -> None:
    with serving(settings(database, "v1.5.0", "smoke")) as url:
        done = npm(images["v1.5.0"], "run", "test:smoke", "--", "--url", url)
        wrong = {"SMOKE_EMAIL": seed.TEST_EMAIL, "SMOKE_PASSWORD": "wrong"}
        refused = npm(images["v1.5.0"], "run", "test:smoke", "--", "--url", url, **wrong)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 1
    assert len(failed) == 1
    assert "free rooms" in failed[0]
    assert refused.returncode == 1
    assert "FAILED  a user can log in" in refused.stdout
    assert npm(images["v1.1.0"], "run", "test:smoke").returncode != 0


@pytest.mark.plan("npm run db:health-check", "npx prisma generate", "npm run db:check")
def test_npm_database_checks(images: dict[str, dict[str, Any]], database: str) -> None:
    def codes(tag: str) -> tuple[int, int]:
        scripts = ("db:health-check", "db:check")
        first, second = (npm(images[tag], "run", script, DATABASE_URL=database).returncode for script in scripts)
        return first, second

    assert codes("v1.0.0") == (0, 0)
    assert codes("v1.1.0") == (0, 1)
    migrate(database, CHANNEL)
    assert codes("v1.1.0") == (0, 0)
    assert codes("v1.0.0") == (0, 0)


@pytest.mark.parametrize("script", ["db:health-check", "db:check"])
def test_npm_database_checks_without_a_database(images: dict[str, dict[str, Any]], postgres: str, script: str) -> None:
    for dsn in ("", "postgresql://postgres@127.0.0.1:1/x", f"{postgres}/postgres"):
        assert npm(images["v1.0.0"], "run", script, DATABASE_URL=dsn).returncode == 1


def test_npm_does_not_know_other_scripts(images: dict[str, dict[str, Any]]) -> None:
    done = npm(images["v1.0.0"], "run", "deploy")
    assert done.returncode == 1
    assert 'Missing script: "deploy"' in done.stderr
