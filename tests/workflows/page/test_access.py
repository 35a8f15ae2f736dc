"""Who may see the page: nobody without a login, and of each plan whoever may read its runs."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from handover.workflows.page import files
from handover.workflows.page.application import PREFIX, application

RUN = "manual__2026-11-18T14:00:00+00:00"
GIVEN = {"plan": "pms", "run": RUN, "dag": "pms_deployment", "name:path": "index.html"}


def every_route():
    for route in application().routes:
        assert isinstance(route, APIRoute), "what is mounted here has no login"
        for method in route.methods:
            path = route.path
            for name, value in GIVEN.items():
                path = path.replace(f"{{{name}}}", value)
            yield method, path


@pytest.mark.parametrize(("method", "path"), every_route())
def test_no_route_answers_without_a_login(desk, method, path):
    answer = desk.ask(lambda web: web.request(method, f"{PREFIX}{path}"), who="")
    assert answer.status_code == 401
    assert answer.headers["content-security-policy"] == files.SAFE["Content-Security-Policy"]


def test_who_follows_a_link_without_a_login_signs_in_first_and_comes_back(desk):
    page = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = desk.get("/runs/pms_deployment/manual__1?x=//evil.example.com", "", headers=page)
    back = "next=%2Fhandover%2Fruns%2Fpms_deployment%2Fmanual__1%3Fx%3D%2F%2Fevil.example.com"
    assert (answer.status_code, answer.headers["location"]) == (303, f"/api/v2/auth/login?{back}")
    assert desk.get("/", "", headers=page).headers["location"] == "/api/v2/auth/login?next=%2Fhandover%2F"
    assert desk.ask(lambda web: web.post(f"{PREFIX}/plans/pms/rollback", headers=page), "").status_code == 401


PLAN_ROUTES = [path for method, path in every_route() if method == "GET" and "/plans/pms" in path]


@pytest.mark.parametrize("path", PLAN_ROUTES)
def test_who_may_not_read_the_runs_of_a_plan_reads_nothing_of_it(desk, path):
    assert desk.get(path, "stranger").status_code == 403


@pytest.mark.parametrize("path", [path for path in PLAN_ROUTES if RUN not in path and "events" not in path])
def test_who_may_read_the_runs_of_a_plan_reads_the_rest_of_it(desk, recorded, path):
    answer = desk.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_a_plan_that_somebody_may_not_read_is_left_out_of_their_list(desk):
    assert [one["name"] for one in desk.get("/plans").json()["plans"]] == ["pms"]
    assert desk.get("/plans", "stranger").json()["plans"] == []


def test_whether_somebody_may_roll_back_is_told_to_them(desk):
    desk.deploy()
    may = {who: desk.get("/plans/pms/now", who).json()["rollback"]["allowed"] for who in ("viewer", "user", "lead")}
    assert may == {"viewer": False, "user": True, "lead": True}


@pytest.mark.parametrize("query", [
    "deployments?limit=0", "deployments?limit=201", "deployments?limit=many", "deployments?offset=-1",
    "deployments/x/measurements?since=yesterday", "deployments/x/measurements?since=nan",
    "deployments/x/measurements?since=-1", "deployments/x/measurements?since=inf", "numbers?days=0",
    "numbers?days=367", f"deployments/{'x' * 251}",
])  # fmt: skip
def test_what_is_asked_too_much_is_refused(desk, query):
    assert desk.get(f"/plans/pms/{query}").status_code == 422


@pytest.mark.parametrize("name", ["none_such", "PMS", "..%2Fpms", "pms%00"])
def test_a_plan_that_there_is_not_is_not_found(desk, name):
    assert desk.get(f"/plans/{name}/now").status_code in (404, 422)


@pytest.mark.parametrize("name", [
    "../views.py", "..%2Fviews.py", "%2e%2e/views.py", "/etc/passwd", "//etc/passwd", "vendor", "", "none.js",
    "index.html%00.js", ".", "..",
])  # fmt: skip
def test_only_files_of_the_page_are_given_out(desk, name):
    assert desk.get(f"/static/{name}").status_code != 200


def test_a_file_that_a_browser_has_is_not_sent_again(desk):
    first = desk.get("/static/icon.svg")
    assert (first.status_code, first.headers["content-type"]) == (200, "image/svg+xml")
    again = desk.get("/static/icon.svg", headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["x-content-type-options"]) == (304, b"", "nosniff")


def test_libraries_are_kept_for_a_day_and_what_is_not_known_is_not_given_out(tmp_path):
    (tmp_path / "vendor").mkdir()
    for name in ("vendor/plots.js", "app.js", "notes.md", "key.pem"):
        (tmp_path / name).write_text("x")
    assert {name: asset.cache for name, asset in files.found(tmp_path).items()} == {
        "app.js": files.ASK_AGAIN, "vendor/plots.js": files.A_DAY,
    }  # fmt: skip


@pytest.mark.parametrize(("dag", "run", "place"), [
    ("pms_deployment", RUN, "plans/pms/deployments/manual__2026-11-18T14%3A00%3A00%2B00%3A00"),
    ("pms_rollback", f"rollback__{RUN}", "plans/pms/deployments/manual__2026-11-18T14%3A00%3A00%2B00%3A00"),
    ("pms_readiness", RUN, "plans/pms"),
])  # fmt: skip
def test_the_tab_of_a_run_leads_to_its_deployment(desk, dag, run, place):
    answer = desk.get(f"/runs/{dag}/{run}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"../../#/{place}")


def test_the_tab_of_somebody_elses_run_says_so(desk):
    answer = desk.get(f"/runs/other_dag/{RUN}")
    assert (answer.status_code, "belongs to no service" in answer.text) == (200, True)
