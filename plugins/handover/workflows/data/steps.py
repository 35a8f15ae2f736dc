"""The steps that fill a database: a seed for a new one, history from CSV files (plan "Data Migration").

They join the concerns: the lock of the deployments, the database, and `handover.data`, which does the work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from handover.data.csv_file import Delimiter, Encoding, Form, OnRejects
from handover.models.evidence import Evidence, Frozen, Measurement, failed, passed
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.data.load import Imported
    from handover.data.places import FileStore
    from handover.plan.data import Data, Import


class ImportRequest(Frozen):
    """What the form of the import DAG asks for."""

    what: str
    source: str
    on_rejects: OnRejects = "abort"
    encoding: Encoding = "utf-8"
    delimiter: Delimiter = ","


class NobodyDeploys(Step):
    """Refuses to go on while a deployment or rollback holds the lock: a migration may be changing the tables."""

    def work(self, run: StepRun) -> Evidence:
        if who := asyncio.run(run.deploying()):
            return failed(self.task_id, f"nothing was touched: {who} holds the lock; run this again when it has ended")
        return passed(self.task_id, "no deployment is under way")


class _DataStep(Step):
    """What both steps share."""

    @property
    def data(self) -> Data:
        assert self.plan.data is not None  # else there is no such DAG
        return self.plan.data

    def connect(self) -> Any:
        from handover.adapters.postgres import database

        return database(self.plan.database.primary_connection).connect()


class ImportRows(_DataStep):
    """Imports the file that the form names. Run twice it changes nothing the second time; killed, nothing at all."""

    def work(self, run: StepRun) -> Evidence:
        from handover.data import csv_file, load, places

        try:
            request = self._request(run)
            spec = self.data.imports[request.what]
            place = places.place(request.source, self.data.sources, self._s3)
            with place.open() as stream:
                form = Form(request.encoding, request.delimiter)
                with csv_file.reading(stream, spec, form) as rows, self.connect() as connection:
                    outcome = load.import_rows(
                        connection, rows, spec, on_rejects=request.on_rejects,
                        timeout_seconds=self.data.statement_timeout_seconds, write_report=place.write_report,
                    )  # fmt: skip
        except (places.BadSource, csv_file.CsvUnreadable, load.NotImported) as error:
            return failed(self.task_id, f"nothing was imported: {error}")
        return self._evidence(request, spec, place, outcome)

    def _request(self, run: StepRun) -> ImportRequest:
        from handover.data.places import BadSource

        asked = {key: value for key, value in dict(run.context["params"]).items() if value is not None}
        try:
            request = ImportRequest.model_validate(asked)
        except ValidationError as error:
            raise BadSource("; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())) from None
        if request.what not in self.data.imports:
            raise BadSource(f"what: {request.what!r} is none of {', '.join(self.data.imports)}")
        return request

    def _s3(self) -> Any:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        return S3Hook(aws_conn_id=self.data.aws_connection).get_conn()

    def _evidence(self, request: ImportRequest, spec: Import, place: FileStore, outcome: Imported) -> Evidence:
        counts = {
            "rows": outcome.rows, "imported": outcome.imported, "there_already": outcome.present,
            "rejected": outcome.rejected, "rows_per_second": round(outcome.rows / outcome.seconds),
        }  # fmt: skip
        seen = [Measurement(what=what, value=value, source=request.source) for what, value in counts.items()]
        more = outcome.faults - len(outcome.first)
        faults = "; ".join(outcome.first) + (f"; and {more} more" if more else "")
        if outcome.rejected and request.on_rejects == "abort":
            return failed(
                self.task_id,
                f"nothing was imported: {outcome.rejected} of {outcome.rows} rows were rejected; the whole report is "
                f"{place.report}. {faults}",
                *seen,
            )
        said = f"{outcome.imported} of {outcome.rows} rows are new in {spec.table}, {outcome.present} were there"
        if outcome.rejected:
            said += f", {outcome.rejected} were rejected ({place.report}): {faults}"
        return passed(self.task_id, said, *seen)


class SeedDatabase(_DataStep):
    """Fills a new database with what the plan's seed names; refuses one that has rows of anybody else."""

    def work(self, run: StepRun) -> Evidence:
        from handover.data import seed

        try:
            wanted = seed.load_seed(seed.seed_file(self.data.seed))
            with self.connect() as connection:
                seeded = seed.plant(connection, wanted, self._password)
        except seed.SeedError as error:
            return failed(self.task_id, str(error))
        source = f"include/seed/{self.data.seed}"
        rows = [Measurement(what=f"{t} rows", value=n, source=source) for t, n in seeded.inserted.items()]
        if not rows:
            return passed(self.task_id, "everything is there as configured; nothing was changed")
        return passed(self.task_id, ", ".join(f"{t}: {n} rows" for t, n in seeded.inserted.items()), *rows)

    def _password(self, connection_id: str) -> str:
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            return BaseHook.get_connection(connection_id).password or ""
        except AirflowNotFoundException:
            return ""
