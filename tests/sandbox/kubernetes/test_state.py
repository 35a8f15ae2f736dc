"""What a cluster leaves on the machine for others, and for its own end, to read."""

from __future__ import annotations

import json
import stat

import pytest

from sandbox.kubernetes import Cluster, cgroups
from sandbox.kubernetes.folder import State
from sandbox.settings import SandboxError
from sandbox.state import Identity

DESCRIPTION = Cluster(
    kubeconfig="/somewhere/kubeconfig", node="10.207.64.2", host_prefix="10.207.0", init_pid=4,
    registry_url="http://10.207.64.2:5000", registry_user="deployer", registry_password="x",
    registry_mirrors=("ghcr.io",), started_seconds=5.5,
)  # fmt: skip


def test_a_description_is_read_as_it_was_written_and_closed_to_others(tmp_path):
    path = tmp_path / "cluster.json"
    DESCRIPTION.write(path)
    assert Cluster.read(path) == DESCRIPTION
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"node": "10.207.64.2"})])
def test_a_file_that_describes_no_cluster_is_refused(tmp_path, content):
    (tmp_path / "cluster.json").write_text(content)
    with pytest.raises(SandboxError, match="does not describe a cluster"):
        Cluster.read(tmp_path / "cluster.json")


def test_a_state_is_read_as_it_was_written(tmp_path):
    for state in (State(207), State(207, Identity(5, 1.5)), State(207, Identity(5, 1.5), Identity(6, 1.75))):
        state.write(tmp_path)
        assert State.read(tmp_path) == state


def test_a_folder_that_is_not_ours_is_not_touched(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(SandboxError, match="was not made by a cluster"):
        State.read(tmp_path)
    assert State.read(tmp_path / "nowhere") is None


def test_version_1_of_control_groups_gets_a_folder_in_every_hierarchy(monkeypatch, tmp_path):
    for name in ("cpu", "memory", "with space"):
        (tmp_path / name).mkdir()
    mounts = tmp_path / "mounts"
    targets = [str(tmp_path / name).replace(" ", r"\040") for name in ("cpu", "memory", "with space")]
    mounts.write_text("".join(f"cgroup {target} cgroup rw 0 0\n" for target in targets) + "proc /proc proc rw 0 0\n")
    monkeypatch.setattr(cgroups, "MOUNTS", mounts)
    cgroups.create("pms-207")
    (tmp_path / "cpu" / "pms-207" / "kubepods" / "pod1").mkdir(parents=True)
    assert len(cgroups.remains("pms-207")) == 5
    cgroups.remove("pms-207")
    assert cgroups.remains("pms-207") == [] and (tmp_path / "cpu").is_dir()
