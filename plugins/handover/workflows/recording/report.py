"""The last step of both DAGs: completes the record, stores the report of it with the backup, and says where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover import clock
from handover.models.evidence import Evidence, Measurement, passed
from handover.people.messages import Message
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.record.report import DeploymentReport as Found

ENDINGS = {"html": "text/html; charset=utf-8", "md": "text/markdown; charset=utf-8"}


class Report(Step):
    """Runs when the lock is given back already and changes nothing in production, so it asks for no fence.

    What it cannot do (the ledger or S3 is away) is retried, and fails this task in the end, but not the deployment: the
    DAG ends with a task that only wants `Close` to have passed.
    """

    needs = "record"

    def work(self, run: StepRun) -> Evidence:
        from handover.people.channels import tell
        from handover.record import checklist, report
        from handover.record.ledger import ledger
        from handover.workflows.recording.tasks import complete

        begun = clock.monotonic()
        deployment = run.token.deployment
        runs = () if run.run_id == deployment else (run.run_id,)
        new = complete(self.plan, deployment, runs)
        record = ledger(self.plan.recorded.connection).read(deployment)
        found = report.build(self.plan, checklist.load(self.plan.recorded.checklist), record)
        keys = store(self.plan, deployment, found)  # one, whichever run tells the end of it: others link to it
        said = Message(event="report", title="Report", slack=_text(self.plan, found, deployment))
        tell(run.context, self.plan, said)
        seconds = round(clock.monotonic() - begun, 3)
        uri = f"s3://{shelf.bucket}/{keys['html']}" if (shelf := shelf_of(self.plan)) else NOWHERE
        return passed(
            self.task_id, f"{uri}; {new} entries were not in the ledger yet",
            Measurement(what="entries_completed", value=new, source="record"),
            Measurement(what="report_seconds", value=seconds, unit="s", source="record"),
        )  # fmt: skip


NOWHERE = "in the record alone (the plan names no bucket for reports, and has no backup, whose bucket would have it)"


@dataclass(frozen=True)
class Shelf:
    """Where reports lie in S3."""

    connection: str
    bucket: str
    prefix: str

    def key(self, run_id: str, ending: str) -> str:
        return f"{self.prefix}{run_id}.{ending}"


def shelf_of(plan: Plan) -> Shelf | None:
    """None where there is no bucket."""
    record, backup = plan.recorded, plan.backup
    connection = record.bucket_connection or (backup.connection if backup else None)
    if record.bucket and connection:
        return Shelf(connection, record.bucket, record.prefix)
    return Shelf(backup.connection, backup.bucket, f"{backup.prefix}{record.prefix}") if backup else None


def store(plan: Plan, run_id: str, found: Found) -> dict[str, str]:
    """Ending to key of what was stored; a second try overwrites the first one. Nothing without a bucket.

    :param run_id: of the deployment
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from handover.record import render

    if (shelf := shelf_of(plan)) is None:
        return {}
    client = S3Hook(aws_conn_id=shelf.connection).get_conn()
    texts = {"html": render.html(found), "md": render.markdown(found)}
    keys = {ending: shelf.key(run_id, ending) for ending in texts}
    for ending, text in texts.items():
        client.put_object(Bucket=shelf.bucket, Key=keys[ending], Body=text.encode(), ContentType=ENDINGS[ending])
    return keys


def link(plan: Plan, run_id: str) -> str:
    """Where the report of a deployment is. It asks for a sign-in: a signed one would let anybody in who reads the
    channel's history. Where there is no bucket, the record alone has it.
    """
    from urllib.parse import quote

    if (shelf := shelf_of(plan)) is None:
        return NOWHERE
    key = quote(shelf.key(run_id, "html"), safe="/")
    return plan.recorded.report_url.replace("{bucket}", shelf.bucket).replace("{key}", key)


def _text(plan: Plan, found: Found, run_id: str) -> str:
    counts = "; ".join(
        f"{section.title}: " + ", ".join(f"{n} {mark}" for mark, n in section.counts.items() if n)
        for section in found.sections
    )
    sign_in = " (asks for a sign-in)" if shelf_of(plan) else ""
    return f"Report of {found.title}, which {found.outcome}: {link(plan, run_id)}{sign_in}\n{counts}"
