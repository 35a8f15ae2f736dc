"""The Python clients and Airflow's operators, unmodified, against the stand-in cluster."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes
import kubernetes_asyncio
import pytest

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's settings before its first import; the operators are run without a scheduler."""
    home = tmp_path_factory.mktemp("airflow")
    os.environ.setdefault("AIRFLOW_HOME", str(home))
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    return home


@pytest.fixture
def context() -> dict[str, Any]:
    """As much of a task's context as the operators read."""
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(
        dag_id="dag", task_id="task", run_id="run", try_number=1, map_index=-1, start_date=None, pushed=pushed,
        xcom_push=lambda key, value, **_: pushed.update({key: value}),
    )  # fmt: skip
    dag = SimpleNamespace(dag_id="dag", parent_dag=None)
    return {"ti": instance, "task_instance": instance, "run_id": "run", "dag": dag}


def test_the_python_client_creates_watches_and_deletes(cluster: Any, namespace: str) -> None:
    api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(cluster.kubeconfig)))
    meta = kubernetes.client.V1ObjectMeta(name="x", labels={"a": "b"})
    made = api.create_namespaced_config_map(namespace, kubernetes.client.V1ConfigMap(metadata=meta, data={"a": "1"}))
    patched = api.patch_namespaced_config_map("x", namespace, {"data": {"a": "2"}})
    assert patched.data == {"a": "2"}
    with pytest.raises(kubernetes.client.ApiException) as error:
        api.replace_namespaced_config_map("x", namespace, made)
    assert error.value.status == 409
    watch = kubernetes.watch.Watch()
    version = made.metadata.resource_version
    for event in watch.stream(api.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=5):
        assert (event["type"], event["object"].data) == ("MODIFIED", {"a": "2"})
        break
    condition = kubernetes.client.V1Preconditions(resource_version=version)
    with pytest.raises(kubernetes.client.ApiException):
        api.delete_namespaced_config_map(
            "x", namespace, body=kubernetes.client.V1DeleteOptions(preconditions=condition)
        )
    assert api.delete_namespaced_config_map("x", namespace).status == "Success"


async def test_the_async_client_patches_and_watches(cluster: Any, namespace: str) -> None:
    configuration = kubernetes_asyncio.client.Configuration(host=cluster.url)
    configuration.api_key["BearerToken"] = f"Bearer {cluster.token}"  # plain HTTP serves it as well
    async with kubernetes_asyncio.client.ApiClient(configuration) as client:
        api = kubernetes_asyncio.client.CoreV1Api(client)
        body = {"metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}
        made = await api.create_namespaced_service(namespace, body)

        async def switch() -> None:
            await asyncio.sleep(0.1)
            await api.patch_namespaced_service("s", namespace, {"spec": {"selector": {"a": "c"}}})

        switching = asyncio.create_task(switch())
        watch = kubernetes_asyncio.watch.Watch()
        version = made.metadata.resource_version
        async with watch.stream(
            api.list_namespaced_service, namespace, resource_version=version, timeout_seconds=5
        ) as events:
            async for event in events:
                assert event["object"].spec.selector == {"a": "c"}
                break
        await switching


# --- Airflow


@pytest.fixture
def connection(airflow: Path, cluster: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> str:
    extra = f'{{"kube_config_path": "{cluster.kubeconfig}", "namespace": "{namespace}"}}'
    monkeypatch.setenv("AIRFLOW_CONN_TEST_CLUSTER", f'{{"conn_type": "kubernetes", "extra": {extra}}}')
    return "test_cluster"


def test_the_pod_operator_runs_a_pod_and_prints_its_log(
    connection: str, namespace: str, context: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    operator = KubernetesPodOperator(
        task_id="task", name="op", namespace=namespace, image="test/tool:v1", cmds=["python", "-c"],
        arguments=["print('from the pod')"], kubernetes_conn_id=connection, get_logs=True,
        on_finish_action="delete_pod", in_cluster=False,
    )  # fmt: skip
    operator.execute(context)
    assert "[base] from the pod" in capsys.readouterr().out
    assert context["ti"].pushed["pod_namespace"] == namespace


def test_the_pod_operator_tells_a_failure(connection: str, namespace: str, context: Any) -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    operator = KubernetesPodOperator(
        task_id="task", name="op", namespace=namespace, image="test/tool:v1", cmds=["python", "-c"],
        arguments=["raise SystemExit(4)"], kubernetes_conn_id=connection, in_cluster=False,
    )  # fmt: skip
    with pytest.raises(Exception, match=r"(?i)fail"):
        operator.execute(context)


def test_the_deferred_pod_operator_hears_of_the_end_by_its_trigger(
    connection: str, namespace: str, context: Any
) -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.sdk.exceptions import TaskDeferred

    operator = KubernetesPodOperator(
        task_id="task", name="op", namespace=namespace, image="test/tool:v1", cmds=["python", "-c"],
        arguments=["print('deferred')"], kubernetes_conn_id=connection, in_cluster=False, deferrable=True,
        poll_interval=0.2,
    )  # fmt: skip
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    event = asyncio.run(first_event(deferred.value.trigger))
    assert event["status"] == "success", event
    operator.trigger_reentry(context, event)


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_job_operator_waits_for_its_job(
    connection: str, namespace: str, context: Any, capsys: pytest.CaptureFixture[str], deferrable: bool
) -> None:
    from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
    from airflow.sdk.exceptions import TaskDeferred

    operator = KubernetesJobOperator(
        task_id="task", name="op", namespace=namespace, image="test/tool:v1", cmds=["python", "-c"],
        arguments=["print('from the job')"], kubernetes_conn_id=connection, in_cluster=False, backoff_limit=0,
        wait_until_job_complete=True, job_poll_interval=0.2, get_logs=True, deferrable=deferrable, parallelism=1,
    )  # fmt: skip
    if deferrable:
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context)
        event = asyncio.run(first_event(deferred.value.trigger))
        assert event["status"] == "success", event
        operator.execute_complete(context, event)
    else:
        operator.execute(context)
        assert "[base] from the job" in capsys.readouterr().out


def test_the_job_operator_tells_a_failure(connection: str, namespace: str, context: Any) -> None:
    from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator

    operator = KubernetesJobOperator(
        task_id="task", name="op", namespace=namespace, image="test/tool:v1", cmds=["python", "-c"],
        arguments=["raise SystemExit(1)"], kubernetes_conn_id=connection, in_cluster=False, backoff_limit=0,
        wait_until_job_complete=True, job_poll_interval=0.2, parallelism=1,
    )  # fmt: skip
    with pytest.raises(Exception, match="is failed with error"):
        operator.execute(context)


async def first_event(trigger: Any) -> dict[str, Any]:
    async with asyncio.timeout(30):
        async for event in trigger.run():
            return dict(event.payload)
    raise AssertionError("the trigger ended without an event")
