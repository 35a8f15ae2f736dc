"""A release expands a table, and its data is moved and cut over by Airflow while guests book."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.until import until

pytestmark = [pytest.mark.run, pytest.mark.slow]
DAG, CONTROL = "pms_data_migration", "pms_data_migration_control"
DIFFERENT = "SELECT count(*) FROM bookings WHERE nights IS DISTINCT FROM check_out - check_in"


@pytest.mark.plan("Data gradually migrated in background", "Cutover happens during low-traffic window")
def test_data_moves_and_is_cut_over_while_guests_book(team, production, guests, endpoints):
    assert team.deploy("v1.9.0").outcome == "succeeded"
    run_id = team.roles["dba"].trigger(DAG, {})

    def ended() -> bool:
        """Whoever is asked again, since Airflow took the first try for lost, answers again."""
        for question in team.admin.questions(DAG, run_id):
            team.roles["dba"].answer(question, ["Cut over"], {})
        return team.admin.run(DAG, run_id)["state"] in ("success", "failed")

    until(ended, "the cutover")
    assert team.admin.run(DAG, run_id)["state"] == "success", team.admin.log(DAG, run_id, "cut_over")
    report = guests.report()
    assert (report["failed"], report["bad_answers"]) == (0, 0)
    with psycopg.connect(endpoints["postgres"]["primary"]) as primary:
        assert primary.execute(DIFFERENT).fetchone() == (0,)
        assert primary.execute("SELECT count(*) > 0 FROM bookings").fetchone() == (True,)
    again = team.roles["dba"].trigger(CONTROL, {"table": "nights", "action": "abort"})
    assert team.admin.wait_for_run(CONTROL, again, 120) == "failed"  # it is cut over
