"""The REST client against the sandbox's own Airflow."""

from __future__ import annotations

import pytest

from sandbox.airflow_client import AirflowClient, AirflowError
from sandbox.services.airflow import unhealthy, unseen_files


@pytest.fixture(scope="module")
def admin(endpoints):
    airflow = endpoints["airflow"]
    with AirflowClient(airflow["url"], airflow["user"], airflow["password"]) as client:
        yield client


@pytest.fixture(scope="module")
def lead(endpoints):
    airflow = endpoints["airflow"]
    with AirflowClient(airflow["url"], **airflow["users"]["lead"]) as client:
        yield client


def test_every_component_is_healthy_and_every_dag_file_was_read(admin):
    assert unhealthy(admin) == ""
    assert unseen_files(admin) == ""
    assert set(admin.health()) == {"metadatabase", "scheduler", "triggerer", "dag_processor"}


def test_a_token_that_has_run_out_is_renewed(admin):
    admin._token = "worn.out.token"
    assert isinstance(admin.dags(), list)


def test_a_wrong_password_is_refused(endpoints):
    with AirflowClient(endpoints["airflow"]["url"], "lead", "wrong") as stranger, pytest.raises(AirflowError) as error:
        stranger.dags()
    assert error.value.status == 401


def test_one_role_cannot_sign_in_with_the_password_of_another(endpoints):
    users = endpoints["airflow"]["users"]
    impostor = AirflowClient(endpoints["airflow"]["url"], "dba", users["lead"]["password"])
    with impostor, pytest.raises(AirflowError):
        impostor.dags()


def test_variables(lead):
    assert lead.variable("sandbox_test") is None
    lead.set_variable("sandbox_test", "1")
    lead.set_variable("sandbox_test", '{"version": "v1.1.0"}')
    assert lead.variable("sandbox_test") == '{"version": "v1.1.0"}'
    lead.delete_variable("sandbox_test")
    assert lead.variable("sandbox_test") is None


def test_nobody_is_asked_anything(lead):
    assert lead.questions() == []


def test_what_is_not_there_is_404(lead):
    for call in (lambda: lead.trigger("no_such_dag"), lambda: lead.run("no_such_dag", "x")):
        with pytest.raises(AirflowError) as error:
            call()
        assert error.value.status == 404


def test_an_api_that_does_not_answer_is_an_error_and_not_a_hang():
    nobody = AirflowClient("http://127.255.255.254:9", "admin", "x", timeout_seconds=2)
    with nobody, pytest.raises(AirflowError, match="refused") as error:
        nobody.health()
    assert error.value.status == 0


def test_the_configuration_is_closed_to_everyone(admin, lead):
    for client in (admin, lead):
        with pytest.raises(AirflowError) as error:
            client.call("GET", "/config")
        assert error.value.status == 403
