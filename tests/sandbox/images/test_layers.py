"""Layers and layouts are the same bytes for the same content, and valid by the OCI image specification."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from sandbox.images import layers, layout
from sandbox.images.layout import Recipe

FILES = {"b/two.txt": "two", "a.sh": "#!/bin/sh", "b/one.txt": "one", "c/d/e": "x" * 100_000}


def tree(folder: Path, names: list[str], *, time: int) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FILES[name])
        os.utime(path, (time, time))
    (folder / "link").symlink_to("/opt/elsewhere")
    if (folder / "a.sh").exists():
        (folder / "a.sh").chmod(0o700)
    return folder


def layer(folder: Path, name: str, names: list[str], *, time: int = 1) -> layers.Layer:
    (folder / f"{name}-blob").mkdir()
    return layers.of_tree(tree(folder / name, names, time=time), folder / f"{name}-blob")


def test_the_same_content_is_the_same_layer(tmp_path):
    first = layer(tmp_path, "first", list(FILES))
    again = layer(tmp_path, "again", list(reversed(FILES)), time=2_000_000_000)
    assert (first.digest, first.diff_id, first.size) == (again.digest, again.diff_id, again.size)


@pytest.mark.parametrize("change", ["content", "mode", "name", "link"])
def test_other_content_is_another_layer(tmp_path, change):
    first = layer(tmp_path, "first", list(FILES))
    other = tree(tmp_path / "other", list(FILES), time=1)
    if change == "content":
        (other / "b/one.txt").write_text("One")
    elif change == "mode":
        (other / "b/one.txt").chmod(0o755)
    elif change == "name":
        (other / "b/one.txt").rename(other / "b/three.txt")
    else:
        (other / "link").unlink()
        (other / "link").symlink_to("/opt")
    (tmp_path / "blob").mkdir()
    assert layers.of_tree(other, tmp_path / "blob").diff_id != first.diff_id


def test_what_a_layer_holds(tmp_path):
    made = layer(tmp_path, "one", list(FILES))
    packed = Path(made.blob).read_bytes()
    assert made.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert made.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    assert made.size == len(packed)
    with tarfile.open(made.blob) as tar:
        entries = {entry.name: entry for entry in tar}
    assert list(entries) == ["a.sh", "b", "b/one.txt", "b/two.txt", "c", "c/d", "c/d/e", "link"]
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, layers.TIME)}
    assert (entries["a.sh"].mode, entries["b/one.txt"].mode, entries["b"].mode) == (0o755, 0o644, 0o755)
    assert entries["link"].linkname == "/opt/elsewhere"
    assert layers.Layer.read(Path(made.blob).parent) == made


def recipe(below: layers.Layer, tag: str, **env: str) -> Recipe:
    return Recipe("ghcr.io/a/b", tag, (below,), ("run",), env, "10001:10001", "/app", {"note": tag})


def test_a_layout_names_blobs_by_their_content(tmp_path):
    below = layer(tmp_path, "below", list(FILES))
    layout.write(tmp_path / "out", [recipe(below, "v1", A="1"), recipe(below, "v2", A="2")])
    first, second = layout.read(tmp_path / "out")
    assert (first.repository, first.tag, second.tag) == ("ghcr.io/a/b", "v1", "v2")
    assert first.digest != second.digest
    blobs = list((tmp_path / "out" / "blobs" / "sha256").iterdir())
    assert len(blobs) == 5  # a layer that both share, two configurations, two manifests
    assert all(hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name for blob in blobs)
    manifest = json.loads(first.blob(first.digest).read_bytes())
    config = json.loads(first.blob(manifest["config"]["digest"]).read_bytes())
    assert config["rootfs"]["diff_ids"] == [below.diff_id]
    assert config["config"]["Env"] == ["A=1"]
    assert config["config"]["User"] == "10001:10001"
    assert manifest["annotations"]["note"] == "v1"
    for part in (manifest["config"], *manifest["layers"]):
        assert first.blob(part["digest"]).stat().st_size == part["size"]


def test_digests_do_not_depend_on_the_place(tmp_path):
    below = layer(tmp_path, "below", list(FILES))
    digests = []
    for name in ("one", "two"):
        layout.write(tmp_path / name, [recipe(below, "v1")])
        digests.append(layout.read(tmp_path / name)[0].digest)
    assert digests[0] == digests[1]
