"""`python -m handover adopt` on an API server that answers as a real one does, over HTTP."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from handover.__main__ import main
from handover.plan.load import load_plan
from handover.plan.parts import PLANS_VARIABLE
from tests.adoption.objects import DEPLOYMENT, INGRESS, PAGE, SCALER, SERVICE

POD = {
    "metadata": {"name": "web-1"}, "spec": DEPLOYMENT["spec"]["template"]["spec"],
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}  # fmt: skip
OBJECTS = {
    "/api/v1/namespaces/shop/services": {"items": [SERVICE]},
    "/api/v1/namespaces/shop/services/web": SERVICE,
    "/api/v1/namespaces/shop/pods": {"items": [POD]},
    "/apis/apps/v1/namespaces/shop/deployments": {"items": [DEPLOYMENT]},
    "/apis/autoscaling/v1/namespaces/shop/horizontalpodautoscalers": {"items": [SCALER]},
    "/apis/networking.k8s.io/v1/namespaces/shop/ingresses": {"items": [INGRESS]},
}
METRICS = "/api/v1/namespaces/shop/pods/web-1:8081/proxy/actuator/prometheus"


class Server(BaseHTTPRequestHandler):
    changes: list[str]

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        known = PAGE if path == METRICS else json.dumps(OBJECTS[path]) if path in OBJECTS else None
        self._answer(200 if known else 404, known or json.dumps({"message": f"{path} not found"}))

    def do_PATCH(self):
        self.changes.append(self.path)
        self._answer(500, "")

    do_POST = do_PUT = do_DELETE = do_PATCH

    def _answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def asked(tmp_path):
    """The arguments that lead to the service; nothing may be changed by any of it."""
    Server.changes = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    config = {
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    yield ["adopt", "--kubeconfig", str(tmp_path / "kubeconfig"), "--namespace", "shop"]
    server.shutdown()
    server.server_close()
    assert Server.changes == []


def test_the_plan_is_printed(asked, capsys):
    assert main([*asked, "--service", "web"]) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    assert plan["cluster"]["service"] == "web"
    assert plan["pod_metrics"] == {"path": "/actuator/prometheus", "port": 8081}


def test_what_was_found_for_programs(asked, capsys):
    assert main([*asked, "--service", "web", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["deployment"], found["container"], found["colour"]) == ("web", "web", None)
    assert found["metrics"] == "http_server_requests_seconds_count"


def test_files_are_written_once(asked, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "include"
    monkeypatch.setenv(PLANS_VARIABLE, str(folder / "plans"))
    assert main([*asked, "--service", "web", "--name", "shop", "--write", str(folder)]) == 0
    written = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.yaml"))
    assert written == ["k8s/shop-first.yaml", "k8s/shop.yaml", "plans/shop.yaml"]
    assert (folder / "connections" / "shop.json").stat().st_mode & 0o077 == 0
    drafted = json.loads((folder / "connections" / "shop.json").read_text())
    assert set(drafted) == set(load_plan(folder / "plans" / "shop.yaml").connections)
    assert drafted["shop_api"] == {"conn_type": "http", "host": "http://shop.example.com"}
    assert drafted["shop_kubernetes"]["extra"] == {"kube_config_path": str(tmp_path / "kubeconfig")}
    said = capsys.readouterr().out
    assert f"python -m handover prepare --plan shop --kubeconfig {tmp_path / 'kubeconfig'}" in said
    before = (folder / "plans" / "shop.yaml").read_text()
    assert main([*asked, "--service", "web", "--name", "shop", "--write", str(folder)]) == 1
    assert "there already; nothing was written" in capsys.readouterr().err
    assert (folder / "plans" / "shop.yaml").read_text() == before


def test_a_second_plan_shares_what_is_the_same_for_both_in_the_folder_that_plans_are_read_from(
    asked, tmp_path, monkeypatch
):
    plans = tmp_path / "include" / "plans"
    monkeypatch.setenv(PLANS_VARIABLE, str(plans))
    assert main([*asked, "--service", "web", "--name", "first", "--write"]) == 0
    assert main([*asked, "--service", "web", "--name", "second", "--write"]) == 0
    second = load_plan(plans / "second.yaml")
    assert (second.rollback.airflow_connection, second.image.connection) == ("first_airflow", "first_registry")
    drafted = json.loads((plans.parent / "connections" / "second.json").read_text())
    assert set(drafted) == {f"second_{what}" for what in ("kubernetes", "api", "preview")}


def test_a_service_that_is_not_there_is_named_with_those_that_are(asked, capsys):
    assert main([*asked, "--service", "shop"]) == 1
    assert capsys.readouterr().err == "no Service shop in shop; there are: web\n"


def test_a_cluster_that_does_not_answer_is_no_refusal(asked, tmp_path, capsys):
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    assert main([*asked, "--service", "web"]) == 2
    assert capsys.readouterr().err.startswith("failed: ")
