"""Exec plugins, as real programs: what they give, and each way in which they give nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters import exec_plugin
from handover.adapters.exec_plugin import Given, _read, credentials
from handover.adapters.kube_access import NoAccess

V1 = "client.authentication.k8s.io/v1"
SECRET = "sesame-opens-all"
GOOD = {"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "t1"}}


@pytest.fixture
def run(tmp_path):
    """Runs a shell script as the plugin of a kubeconfig in its folder."""

    def plugin(script: str, cluster: dict | None = None, **more):
        program = tmp_path / "plugin"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        section = {"apiVersion": V1, "command": "./plugin", "interactiveMode": "IfAvailable", **more}
        return asyncio.run(credentials(section, cluster or {}, tmp_path, "user ada"))

    return plugin


def prints(answer: object) -> str:
    return f"cat <<'END'\n{answer if isinstance(answer, str) else json.dumps(answer)}\nEND"


def test_a_token_and_when_it_ends(run):
    status = {"token": "t1", "expirationTimestamp": "2026-11-24T14:00:00Z"}
    assert run(prints(GOOD | {"status": status})) == Given("t1", ends_at=1795528800.0)


def test_a_certificate(run):
    status = {"clientCertificateData": "PEM", "clientKeyData": "KEY"}
    assert run(prints(GOOD | {"status": status})) == Given(certificate="PEM", key="KEY")


def test_no_credential_shows_in_a_representation(run):
    assert "t1" not in repr(run(prints(GOOD)))


def test_its_arguments_its_environment_and_what_it_is_told_of_the_cluster(run):
    cluster = {
        "server": "https://there", "certificate-authority-data": "Q0E=",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "us"}}],
    }  # fmt: skip
    told = 'INFO=$(printf %s "$KUBERNETES_EXEC_INFO" | base64 -w0)'
    answer = json.dumps(GOOD | {"status": {"token": "$1-$WHO-$INFO"}}).replace('"', '\\"')
    given = run(
        f'{told}\necho "{answer}"', cluster, args=["x"], env=[{"name": "WHO", "value": "me"}], provideClusterInfo=True
    )
    argument, environment, info = given.token.split("-")
    assert (argument, environment) == ("x", "me")
    assert json.loads(base64.b64decode(info)) == {
        "apiVersion": V1, "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {"server": "https://there", "certificate-authority-data": "Q0E=", "config": {"audience": "us"}},
        },
    }  # fmt: skip


def test_nobody_is_there_to_answer_it(run):
    assert run(f"read -r answer && exit 1\n{prints(GOOD)}") == Given("t1")


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        (f"echo {SECRET} >&2; exit 255", {}, "it failed (exit code 255)"),
        (f"echo {SECRET}", {}, "what it printed is no ExecCredential"),
        ("", {}, "what it printed is no ExecCredential"),
        (prints([SECRET]), {}, "what it printed is no ExecCredential"),
        (prints(GOOD | {"kind": "Config"}), {}, "what it printed is no ExecCredential"),
        ("yes", {}, "what it printed is no ExecCredential"),
        (prints(GOOD | {"apiVersion": V1 + "beta1"}), {}, f"it answered for another apiVersion than {V1}"),
        (prints(GOOD | {"status": {}}), {}, "it gave neither a token nor a certificate"),
        (prints(GOOD | {"status": None}), {}, "it gave neither a token nor a certificate"),
        (prints(GOOD | {"status": {"token": 7}}), {}, "its credentials have another form"),
        (prints(GOOD | {"status": {"clientCertificateData": SECRET}}), {}, "its credentials have another form"),
        (
            prints(GOOD | {"status": {"token": SECRET, "expirationTimestamp": SECRET}}), {},
            "its expirationTimestamp is no time",
        ),
        (prints(GOOD), {"interactiveMode": "Always"}, "it wants a terminal"),
        (prints(GOOD), {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "an apiVersion"),
        (prints(GOOD), {"command": "./nobody"}, "it cannot be run: No such file or directory"),
        (prints(GOOD), {"command": ""}, "a command and an apiVersion"),
    ],
)  # fmt: skip
def test_what_it_does_wrong_is_one_line_without_a_secret(run, script, more, said):
    args = {"args": ["--client-secret", SECRET], "env": [{"name": "SECRET", "value": SECRET}]}
    with pytest.raises(NoAccess) as failed:
        run(script, **(args | more))
    text = str(failed.value)
    assert text.startswith(f"user ada: exec plugin {more.get('command', './plugin')}: ")
    assert said in text
    assert SECRET not in text
    assert "\n" not in text


def test_one_that_hangs_is_stopped_with_all_that_it_started(run, monkeypatch, tmp_path):
    monkeypatch.setattr(exec_plugin, "SECONDS", 0.3)
    with pytest.raises(NoAccess, match=r"it gave nothing within 0\.3 s"):
        run(f"mkfifo {tmp_path}/never; cat {tmp_path}/never & cat {tmp_path}/never")


def test_one_whose_child_keeps_its_output_open_is_stopped_too(run, monkeypatch, tmp_path):
    monkeypatch.setattr(exec_plugin, "SECONDS", 0.3)
    with pytest.raises(NoAccess, match="it gave nothing"):
        run(f"mkfifo {tmp_path}/never; cat {tmp_path}/never &\n{prints(GOOD)}")


def test_the_loop_goes_on_while_a_plugin_works(tmp_path):
    """It waits for us: were the loop held up, neither would ever go on."""
    program, gate = tmp_path / "plugin", tmp_path / "gate"
    program.write_text(f"#!/bin/sh\nmkfifo {gate}; touch {gate}.there; cat {gate} >/dev/null\n{prints(GOOD)}\n")
    program.chmod(0o755)

    async def work():
        running = asyncio.create_task(credentials({"apiVersion": V1, "command": "./plugin"}, {}, tmp_path, "user ada"))
        while not (tmp_path / "gate.there").exists():
            await asyncio.sleep(0)
        (tmp_path / "gate").write_text("go on")
        return await running

    assert asyncio.run(work()) == Given("t1")


anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(
    st.binary(max_size=200)
    | anything.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {},
        optional={
            "token": anything, "clientCertificateData": anything, "clientKeyData": anything,
            "expirationTimestamp": anything | st.datetimes().map(str),
        },
    ).map(lambda status: json.dumps(GOOD | {"status": status}).encode())
)  # fmt: skip
def test_whatever_it_prints_is_credentials_or_one_clear_line(output):
    said = ""
    try:
        found = _read(output, V1, "user ada")
    except NoAccess as error:
        said = str(error)
    assert said.startswith("user ada: ") if said else found.token or (found.certificate and found.key)
    assert "\n" not in said
