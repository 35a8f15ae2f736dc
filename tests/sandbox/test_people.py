"""Whoever the plan may ask can sign in to the stand-in, and whoever brings it up is told what to do with it."""

from __future__ import annotations

from pathlib import Path

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from sandbox import cli
from sandbox.settings import ROLES

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_user_of_the_plan_is_a_user_of_the_stand_in():
    team = load_plan(INCLUDE / "plans" / "pms.yaml").team
    assert {user for role in team.values() for user in role.users} <= set(ROLES)


def test_whoever_brings_it_up_hears_who_may_sign_in_what_to_try_and_how_to_end_it(capsys):
    users = {role: {"user": role, "password": "secret"} for role in ROLES}
    airflow = {"url": "http://airflow", "user": "admin", "password": "p", "users": users}
    cli._print_addresses({"airflow": airflow, "public": "http://pms", "kubeconfig": "/k"}, Path("/home"))
    said = capsys.readouterr().out
    for text in (*ROLES, "pms_deployment", "v1.1.0", "make down", "sandbox/overlay.yaml", "handover status --plan"):
        assert text in said, text
    assert "secret" not in said


def test_the_first_page_leads_to_where_traffic_is_to_the_limits_and_to_the_compressed_times():
    for text in ("-m handover status --plan", "docs/known-limits.md", "sandbox/overlay.yaml"):
        assert text in README, text
