"""Which cluster and which user: kubeconfigs as kubectl reads them, Airflow connections, a pod's service account."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters import kube_users
from handover.adapters.kube_access import Access, NoAccess
from handover.adapters.kube_users import access_from_file, access_from_text, access_in_pod
from handover.adapters.kubernetes import connect
from tests.support.steps import connect_to

SECRET = "sesame-opens-all"


def kubeconfig(user: dict | None = None, cluster: dict | None = None, **more) -> dict:
    return {
        "clusters": [{"name": "there", "cluster": {"server": "https://there:6443", **(cluster or {})}}],
        "users": [{"name": "ada", "user": user}],
        "contexts": [{"name": "home", "context": {"cluster": "there", "user": "ada"}}],
        "current-context": "home",
        **more,
    }


def read(config: object, context: str | None = None) -> Access:
    return asyncio.run(access_from_text(config, context))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        ({"token": "t1"}, "Bearer t1"),
        ({"token": "t1\n"}, "Bearer t1"),
        ({"username": "ada", "password": "p"}, "Basic YWRhOnA="),
        ({}, ""),
        (None, ""),
    ],
)
def test_who_we_are(user, authorization):
    assert read(kubeconfig(user)).authorization == authorization


def test_text_and_what_it_says_are_the_same():
    config = kubeconfig({"token": "t1"})
    assert read(yaml.safe_dump(config)).authorization == read(json.dumps(config)).authorization == "Bearer t1"


def test_everything_about_the_cluster():
    found = read(
        kubeconfig(
            {"as": "grace", "client-certificate-data": encoded("PEM"), "client-key-data": encoded("KEY")},
            {
                "server": "https://there:6443/", "certificate-authority-data": encoded("CA"), "proxy-url": "http://p",
                "tls-server-name": "kubernetes", "insecure-skip-tls-verify": True,
            },
        )
    )  # fmt: skip
    assert (found.server, found.verify) == ("https://there:6443", False)
    assert (found.server_name, found.proxy) == ("kubernetes", "http://p")
    assert (found.certificate, found.key, found.impersonated) == ("PEM", "KEY", (("Impersonate-User", "grace"),))


def test_a_user_that_is_not_there_is_nobody_as_for_kubectl():
    config = kubeconfig(contexts=[{"name": "home", "context": {"cluster": "there", "user": "stranger"}}])
    assert (read(config).authorization, read(config).user) == ("", "nobody")


@pytest.mark.parametrize(
    ("cluster", "server"),
    [
        ({"server": "there:6443"}, "http://there:6443"),
        ({"server": "there:6443", "insecure-skip-tls-verify": True}, "https://there:6443"),
        ({"server": "there:6443", "certificate-authority-data": encoded("CA")}, "https://there:6443"),
        ({"server": "there"}, "http://there"),
        ({"server": "HTTPS://there/base/"}, "HTTPS://there/base"),
        ({"server": "https://[::1]:6443"}, "https://[::1]:6443"),
    ],
)
def test_a_server_may_be_written_without_a_scheme(cluster, server):
    assert read(kubeconfig({}, cluster)).server == server


def test_a_scheme_in_capitals_is_one():
    assert read(kubeconfig({}, {"server": "HTTPS://there"})).tls() is not None
    assert read(kubeconfig({}, {"server": "HTTP://there"})).tls() is None


def test_everybody_that_a_user_asks_as():
    user = {"as": "grace", "as-uid": 7, "as-groups": ["ops", "dev"], "as-user-extra": {"scopes/x": ["a", "b"]}}
    assert read(kubeconfig(user)).impersonated == (
        ("Impersonate-User", "grace"), ("Impersonate-Uid", "7"), ("Impersonate-Group", "ops"),
        ("Impersonate-Group", "dev"), ("Impersonate-Extra-scopes%2Fx", "a"), ("Impersonate-Extra-scopes%2Fx", "b"),
    )  # fmt: skip


def test_a_token_file_is_renewed_so_it_wins_over_the_token_beside_it(tmp_path):
    (tmp_path / "token").write_text("t2")
    assert read(kubeconfig({"token": "t1", "tokenFile": str(tmp_path / "token")})).authorization == "Bearer t2"
    assert read(kubeconfig({"token": "t1", "tokenFile": "/nowhere"})).authorization == "Bearer t1"


@pytest.mark.parametrize("user", [{"auth-provider": None}, {"exec": None}, {"token": None, "as-groups": None}])
def test_what_is_said_to_be_nothing_is_nothing(user):
    assert read(kubeconfig(user)).authorization == ""


def test_of_several_documents_the_first_counts_as_for_kubectl():
    assert read(f"{yaml.safe_dump(kubeconfig({'token': 't1'}))}---\nb: 2\n").authorization == "Bearer t1"


def test_another_context():
    second = {"name": "away", "context": {"cluster": "there", "user": "eve"}}
    config = kubeconfig({"token": "t1"})
    config["contexts"].append(second)
    config["users"].append({"name": "eve", "user": {"token": "t2"}})
    assert read(config, "away").authorization == "Bearer t2"


def test_paths_are_relative_to_the_file_and_the_first_file_wins(tmp_path, monkeypatch):
    first, second = tmp_path / "a" / "config", tmp_path / "b" / "config"
    for path, token in ((first, "t1"), (second, "t2")):
        path.parent.mkdir()
        (path.parent / "token").write_text(f"{token}\n")
        path.write_text(yaml.safe_dump(kubeconfig({"tokenFile": "token"})))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{first}:{second}")
    found = asyncio.run(access_from_file(None))
    assert (found.authorization, found.user) == ("Bearer t1", f"user ada (token file {first.parent}/token)")


def test_a_certificate_authority_does_not_matter_where_nobody_is_to_verify():
    config = kubeconfig({}, {"insecure-skip-tls-verify": True, "certificate-authority-data": encoded("no CA")})
    assert read(config).tls() is not None


def written(path, config: object) -> str:
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    return str(path)


def test_files_that_are_empty_or_not_there_are_left_out(tmp_path, monkeypatch):
    empty, good = written(tmp_path / "empty", ""), written(tmp_path / "good", kubeconfig({"token": "t1"}))
    monkeypatch.setenv("KUBECONFIG", f":{tmp_path}/none:{empty}::{good}:{good}")
    assert asyncio.run(access_from_file(None)).authorization == "Bearer t1"


def test_context_cluster_and_user_may_stand_in_three_files(tmp_path, monkeypatch):
    whole = kubeconfig({"tokenFile": "token"}, {"certificate-authority": "ca"})
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
        (folder / "token").write_text(folder.name)
        (folder / "ca").write_text(f"CA of {folder.name}")
    wanted = (("contexts", "current-context"), ("clusters",), ("users",))
    files = [
        written(folder / "config", {key: whole[key] for key in keys})
        for folder, keys in zip(folders, wanted, strict=True)
    ]
    monkeypatch.setenv("KUBECONFIG", ":".join(files))
    found = asyncio.run(access_from_file(None))
    assert (found.authorization, found.authority) == ("Bearer c", "CA of b")


def test_what_is_wrong_names_the_file_that_it_stands_in(tmp_path, monkeypatch):
    whole = kubeconfig({"tokenFile": "nowhere"})
    first = written(tmp_path / "first", {key: whole[key] for key in ("contexts", "current-context", "clusters")})
    second = written(tmp_path / "second", {"users": whole["users"]})
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    with pytest.raises(NoAccess, match=f"^{second}: user ada: {tmp_path}/nowhere: No such file"):
        asyncio.run(access_from_file(None))
    written(tmp_path / "second", "a: [")
    with pytest.raises(NoAccess, match=f"^{second}: it is no YAML"):
        asyncio.run(access_from_file(None))
    written(tmp_path / "second", "{}")
    written(tmp_path / "first", {**whole, "users": [], "clusters": [{"name": "there", "cluster": {"server": "::"}}]})
    with pytest.raises(NoAccess, match=f"^{first}: cluster there: its server is no address"):
        asyncio.run(access_from_file(None))


def test_a_file_with_a_colon_in_its_name_is_one_file(tmp_path):
    path = written(tmp_path / "a:b", kubeconfig({"token": "t1"}))
    assert asyncio.run(access_from_file(path)).authorization == "Bearer t1"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "the kubeconfig: it is no YAML"),
        (f"a: [{SECRET}", "the kubeconfig: it is no YAML"),
        ("a: [b\nc: }", "the kubeconfig: it is no YAML (line 2)"),
        ("a: *x", "the kubeconfig: it is no YAML (line 1)"),
        ("!!python/object/apply:os.system [x]", "the kubeconfig: it is no YAML"),
        ("", "the kubeconfig: it has no current context"),
        ("# nothing", "the kubeconfig: it has no current context"),
        ([], "the kubeconfig: it is no kubeconfig but a list"),
        ("hello", "the kubeconfig: it is no kubeconfig but a text"),
        (kubeconfig(**{"current-context": ""}), "it has no current context; there are home: say which"),
        (kubeconfig(**{"current-context": "nowhere"}), "the kubeconfig: it has no context nowhere"),
        (kubeconfig(**{"current-context": ["home"]}), "the kubeconfig: current-context is no text but a list"),
        (kubeconfig(clusters=None), "context home is of the cluster there, which is not there"),
        (kubeconfig(contexts=[{"name": "home"}]), "context home is of the cluster (none), which is not there"),
        (kubeconfig(clusters=[7]), "the kubeconfig: clusters is not a list in which every item has a name"),
        (kubeconfig(clusters={"there": {}}), "the kubeconfig: clusters is not a list"),
        (kubeconfig(users=[{"name": "ada", "user": SECRET}]), "the kubeconfig: users is not a list"),
        (kubeconfig(users=[{"name": "ada"}, {"name": "ada"}]), "the kubeconfig: users has ada twice"),
        (kubeconfig({}, {"server": ""}), "the kubeconfig: cluster there has no server"),
        (kubeconfig({}, {"server": "unix:///there"}), "cluster there: its server is no address"),
        (kubeconfig({}, {"server": "there:6443/api"}), "cluster there: its server is no address"),
        (kubeconfig({}, {"server": "https://there:many"}), "cluster there: its server is no address"),
        (kubeconfig({}, {"server": "https://there\r\nX: y"}), "cluster there: its server is no address"),
        (kubeconfig({}, {"proxy-url": "::bad::"}), "cluster there: its proxy is no address"),
        (
            kubeconfig({}, {"proxy-url": "socks5://p:1"}),
            "its proxy is of the kind socks5, and only http, https are known: name a proxy of these in proxy-url or "
            "HTTPS_PROXY, or forward a port",
        ),
        (kubeconfig({}, {"certificate-authority": "/nowhere/ca"}), "cluster there: /nowhere/ca: No such file"),
        (kubeconfig({"token": f"{SECRET} {SECRET}"}), "user ada: its token is none"),
        (kubeconfig({"token": f"{SECRET}\r\nX: y"}), "user ada: its token is none"),
        (kubeconfig({"tokenFile": "/nowhere/token"}), "user ada: /nowhere/token: No such file"),
        (kubeconfig({"client-certificate-data": "%%%"}), "user ada: client-certificate-data is no PEM in base64"),
        (kubeconfig({"client-certificate-data": encoded(SECRET)}), "user ada: a client certificate needs its key"),
        (kubeconfig({"as-groups": ["admins"]}), "user ada: as-uid, as-groups and as-user-extra need as, a user"),
        (kubeconfig({"as": f"{SECRET}\r\nX: y"}), "user ada: as has what no header may have"),
        (kubeconfig({"auth-provider": {"name": "oidc"}}), "user ada: its auth-provider oidc gave nothing"),
        (kubeconfig({"auth-provider": {"name": "azure"}}), "nobody knows its auth-provider azure any more"),
        (kubeconfig({"auth-provider": SECRET}), "user ada: its auth-provider is not as it should be"),
        (kubeconfig({"exec": SECRET}), "user ada: its exec is not as it should be"),
    ],
)
def test_what_is_wrong_is_one_line_without_a_secret(config, said):
    with pytest.raises(NoAccess) as wrong:
        read(config)
    assert said in str(wrong.value)
    assert SECRET not in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_certificates_that_are_none_are_one_line():
    access = read(kubeconfig({"client-certificate-data": encoded(SECRET), "client-key-data": encoded("KEY")}))
    with pytest.raises(
        NoAccess, match=r"user ada \(client certificate\): a certificate or key cannot be read"
    ) as wrong:
        access.tls()
    assert SECRET not in str(wrong.value)


def test_no_secret_shows_in_a_representation():
    user = {"token": SECRET, "client-certificate-data": encoded(SECRET), "client-key-data": encoded(SECRET)}
    assert SECRET not in repr(read(kubeconfig(user, {"proxy-url": f"http://ada:{SECRET}@p"})))


# --- a pod, and Airflow's connection


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """As if we ran in one."""
    (tmp_path / "token").write_text("t1")
    (tmp_path / "ca.crt").write_text("CA")
    monkeypatch.setattr(kube_users, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return tmp_path


def test_a_pods_service_account(pod):
    found = asyncio.run(access_in_pod())
    assert (found.server, found.authority, found.authorization) == ("https://10.0.0.1:443", "CA", "Bearer t1")
    assert "service account" in found.user
    (pod / "token").write_text("t2")
    assert asyncio.run(access_in_pod()).authorization == "Bearer t2"


def test_a_pod_without_a_kubeconfig_is_its_service_account(pod, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert asyncio.run(access_from_file(None)).authorization == "Bearer t1"
    with pytest.raises(NoAccess, match="there is no kubeconfig: /elsewhere"):
        asyncio.run(access_from_file("/elsewhere"))
    monkeypatch.setenv("KUBECONFIG", written(pod / "empty", "# nothing\n"))
    assert asyncio.run(access_from_file(None)).authorization == "Bearer t1"
    monkeypatch.setenv("KUBECONFIG", written(pod / "config", kubeconfig(**{"current-context": ""})))
    with pytest.raises(NoAccess, match="no current context"):
        asyncio.run(access_from_file(None))


def test_outside_of_a_cluster_there_is_no_service_account(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoAccess, match="this is no pod"):
        asyncio.run(access_in_pod())


def authorized_by(monkeypatch, **extra) -> str:
    connect_to(monkeypatch, "cluster", conn_type="kubernetes", extra=extra)

    async def work() -> str:
        async with connect("cluster", "n") as kube:
            return (await kube._api._renewal.current()).authorization

    return asyncio.run(work())


@pytest.mark.parametrize("prefix", ["", "extra__kubernetes__"])
def test_a_connection_says_which_way(monkeypatch, tmp_path, pod, prefix):
    config = kubeconfig({"token": "t7"})
    config["contexts"].append({"name": "away", "context": {"cluster": "there", "user": "eve"}})
    config["users"].append({"name": "eve", "user": {"token": "t8"}})
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    assert authorized_by(monkeypatch, **{f"{prefix}kube_config_path": str(path)}) == "Bearer t7"
    assert authorized_by(monkeypatch, **{f"{prefix}kube_config": json.dumps(config)}) == "Bearer t7"
    assert authorized_by(monkeypatch, **{f"{prefix}in_cluster": True}) == "Bearer t1"
    away = {f"{prefix}kube_config": config, f"{prefix}cluster_context": "away"}
    assert authorized_by(monkeypatch, **away) == "Bearer t8"
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert authorized_by(monkeypatch) == "Bearer t7"


def test_a_connection_that_says_two_ways_is_refused(monkeypatch):
    with pytest.raises(NoAccess, match="connection cluster: only one of in_cluster, kube_config"):
        authorized_by(monkeypatch, in_cluster=True, kube_config="{}")
    with pytest.raises(NoAccess, match="connection cluster: the kubeconfig: it is no YAML"):
        authorized_by(monkeypatch, kube_config="{")


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just("ada") | st.just("home")
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@given(
    st.dictionaries(st.sampled_from(["clusters", "users", "contexts", "current-context", "kind"]), anything),
    st.dictionaries(
        st.sampled_from(
            [
                "token",
                "tokenFile",
                "client-certificate-data",
                "client-key-data",
                "as",
                "as-uid",
                "as-groups",
                "as-user-extra",
                "username",
                "auth-provider",
                "exec",
            ]
        ),
        anything,
    ),
    st.booleans(),
)
def test_whatever_a_kubeconfig_says_it_is_an_access_or_one_clear_line(config, user, known):
    said = ""
    try:
        read(kubeconfig(user) | (config if known else {}))
    except NoAccess as error:
        said = str(error)
    assert "\n" not in said
