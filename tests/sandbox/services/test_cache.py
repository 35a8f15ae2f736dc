"""The cache of data folders: made once, whoever comes first, and never in halves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.services import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_made_once_and_copied_out(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "data").write_text("seed")

    assert not cache.obtain("kind", "1", tmp_path / "a", make)
    assert cache.obtain("kind", "1", tmp_path / "b", make)
    (tmp_path / "a" / "data").write_text("changed")
    cache.obtain("kind", "1", tmp_path / "c", make)
    assert len(made) == 1
    assert [(tmp_path / name / "data").read_text() for name in "abc"] == ["changed", "seed", "seed"]


def test_two_that_start_together_both_get_it_and_one_makes_it(tmp_path):
    made, told = [], []
    waits = threading.Event()

    def make(folder):
        made.append(folder)
        assert waits.wait(10)
        (folder / "data").write_text("seed")

    def tell(line):
        told.append(line)
        waits.set()

    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: cache.keep("kind", "1", make, tell), range(2)))
    assert len(made) == 1
    assert [(folder / "data").read_text() for folder in folders] == ["seed", "seed"]
    assert told[0] == "kind-1 is being made by another process: waiting for it"
    assert [path.name for path in cache.root().iterdir()] == ["kind-1"]


def test_what_failed_is_not_kept(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.obtain("kind", "1", tmp_path / "a", fail)
    assert list(cache.root().iterdir()) == []
    assert not (tmp_path / "a").exists()


def test_only_the_newest_are_kept(tmp_path):
    for number in range(4):
        cache.obtain("kind", str(number), tmp_path / str(number), lambda folder: None)
    assert sorted(path.name for path in cache.root().iterdir()) == ["kind-2", "kind-3"]


def test_a_lock_beside_the_folders_is_no_folder_to_be_removed(tmp_path):
    for number in range(2):
        cache.keep("kind", str(number), lambda folder: None)
    for number in range(2, 9):
        (cache.root() / f"kind-{number}.lock").touch()
    cache.keep("kind", "0", lambda folder: None)
    assert sorted(path.name for path in cache.root().iterdir() if path.is_dir()) == ["kind-0", "kind-1"]
    assert (cache.root() / "kind-8.lock").exists()


def test_the_cache_is_closed_to_others(tmp_path):
    cache.obtain("kind", "1", tmp_path / "a", lambda folder: None)
    assert cache.root().stat().st_mode & 0o077 == 0
