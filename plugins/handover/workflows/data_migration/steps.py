"""The steps of a data migration: they join the lock of the deployments, the database, and people."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.database.operators import DatabaseStep
from handover.evidence_seal import NotSealed, leave, left
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.models.names import DATABASE
from handover.models.record import DECISION_KEY, Decision
from handover.people.details import details
from handover.people.question import RoleQuestion
from handover.plan.parts import required
from handover.step import StepRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Context
    from airflow.sdk.exceptions import TaskDeferred

    from handover.adapters.postgres import Database
    from handover.database.backfill.runner import Ended
    from handover.database.backfill.shape import Shape
    from handover.database.backfill.stages import Stages
    from handover.plan.data_migrations import DataMigration, DataMigrations
    from handover.plan.model import Plan


CUT_OVER, NOT_NOW = "Cut over", "Not now"
PAUSED_SECONDS, HELD_SECONDS, NEXT_SECONDS = 15.0, 15.0, 5.0
"""How long a worker slot is given back for."""


class _MigrationStep(DatabaseStep):
    """What these steps share."""

    needs = "data_migrations"

    def asking(self, context: Context, work: Callable[[], Any]) -> Any:
        """What cannot be done is the step's reason."""
        from handover.database.backfill import checked, checkpoint, runner, stages

        try:
            return super().asking(context, work)
        except (checked.NotPossible, checkpoint.Superseded, runner.RowFailed, stages.NotNow) as error:
            return self.conclude(context, failed(self.task_id, str(error)))

    def later(self, seconds: float) -> TaskDeferred:
        """To be raised: goes on in `resume` after so long."""
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        moment = clock.utc() + datetime.timedelta(seconds=seconds)
        self.log.info("waiting until %s", moment)
        return self.waiting(DateTimeTrigger(moment=moment), seconds)

    @property
    def rules(self) -> DataMigrations:
        return required(self.plan.data_migrations, self.needs)

    def stages(self) -> Stages:
        from handover.database.backfill.stages import Stages

        return Stages(self.primary, self.rules.lock_timeout_seconds, threading.Event().wait)

    def shapes(self) -> Iterator[tuple[DataMigration, Shape]]:
        """Every one; raises `NotPossible`."""
        for name, move in self.rules.tables.items():
            yield move, self.shape(name)

    def shape(self, name: str) -> Shape:
        from handover.database.backfill import checked

        with self.primary.connect() as connection:
            move, known = self.rules.tables[name], f"{self.plan.name}_{name}"
            return checked.shape(connection, known, move, self.rules.dense)


class CheckMigrations(_MigrationStep):
    """Whether everything that the plan describes can be done: all tables, all reasons, before anything is touched."""

    def work(self, run: StepRun) -> Evidence:
        from handover.database.backfill.checked import NotPossible

        wrong = self._replicas_that_are_none()
        keys = []
        for name in self.rules.tables:
            try:
                shape = self.shape(name)
                how = "ranges of it" if shape.dense else "rows in its order"
                keys.append(f"{name}: {shape.table} by {', '.join(one.name for one in shape.key)}, {how}")
            except NotPossible as error:
                wrong.append(str(error))
        if wrong:
            return failed(self.task_id, "nothing was touched: " + "; ".join(wrong))
        return passed(self.task_id, "; ".join(keys))

    def _replicas_that_are_none(self) -> list[str]:
        found = []
        for name in self.plan.database.replica_connections:
            with self._database(name).connect() as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            why = self._of_another(self._database(name)) if row and row[0] else "is no replica"
            found += [f"migration.replica_connections: {name} {why}"] if why else []
        return found

    def _of_another(self, replica: Database) -> str:
        from handover.database.apart import NotApart, identity

        try:
            return "" if identity(replica) == identity(self.primary) else "is a replica of another cluster"
        except NotApart as error:
            return f"may be of another cluster: {error}"


class Expand(_MigrationStep):
    """New columns where the plan adds them, and the trigger: whatever is written from here on is filled."""

    def work(self, run: StepRun) -> Evidence:
        stages, done = self.stages(), []
        for name, move in self.rules.tables.items():
            self.shape(name)
            stages.add(move)
            shape = self.shape(name)
            stages.expand(shape)
            done.append(f"{shape.table}: {', '.join(move.columns)}")
        return passed(self.task_id, "filled by whoever writes: " + "; ".join(done))


class Backfill(_MigrationStep):
    """Fills the rows from before, for one entry of the plan. Killed or called off at any moment, the next try goes on
    from the checkpoint. Without a slot while it is paused or held.
    """

    def __init__(self, *, move: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.move = move

    def work(self, run: StepRun) -> Evidence:
        ended, seen = self._slice(run)
        if ended.how == "done":
            return passed(self.task_id, self._told(ended), *self._measured(ended), *seen)
        seconds = {"paused": PAUSED_SECONDS, "held": HELD_SECONDS, "slice": NEXT_SECONDS}[ended.how]
        self.log.info("%s: %s, looked at again in %.0f s: %s", self.move, ended.how, seconds, ended.why or "its turn")
        raise self.later(seconds)

    def resume(self, context: Context, event: Any) -> Any:
        return self.conclude(context, self.work(self.step_run(context)))

    def _slice(self, run: StepRun) -> tuple[Ended, tuple[Measurement, ...]]:
        from handover.database import catalog
        from handover.database.backfill import runner
        from handover.database.backfill.pressure import Pressure

        asyncio.run(run.deploying())  # the task's own loop looks the cluster up, which the thread beside it may not
        shape, primary = self.shape(self.move), self.primary
        with primary.connect() as connection:
            table = catalog.find(connection, shape.table)
        assert table is not None  # the shape was just made of it
        pressure = Pressure(primary, self.replicas, self.rules, table, run.deploying)
        with pressure.watching():
            worker = runner.Backfill(primary, shape, self.rules, pressure, run.run_id)
            ended = worker.run(self.rules.slice_seconds)
        seen = pressure.seen
        return ended, (
            Measurement(what="max_replication_lag_seconds", value=round(seen.max_lag, 3), unit="s", source=DATABASE),
            Measurement(what="max_writer_wait_seconds", value=round(seen.max_wait, 3), unit="s", source=DATABASE),
        )

    def _told(self, ended: Ended) -> str:
        state = ended.state
        return (
            f"{self.move}: {state.filled} rows filled in {state.batches} batches; every key is passed ({state.stage})"
        )

    def _measured(self, ended: Ended) -> tuple[Measurement, ...]:
        values = {"rows_filled": ended.state.filled, "batches": ended.state.batches, "batches_undone": ended.undone}
        return tuple(Measurement(what=what, value=value, source=DATABASE) for what, value in values.items())


class Compare(_MigrationStep):
    """Every row of one entry of the plan: is the new column what its expression says, is the old one on the way back?
    Says how many are not, and the keys of the first ones; never a value.
    """

    def __init__(self, *, move: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.move = move

    def work(self, run: StepRun) -> Evidence:
        shape, stages = self.shape(self.move), self.stages()
        if stages.is_over(shape):
            return passed(self.task_id, f"{self.move}: it was cut over, the new columns are written by themselves")
        found = stages.compare(shape)
        seen = [
            Measurement(what=what, value=value, source=DATABASE)
            for what, value in (
                ("rows_different", found.wrong),
                ("rows_different_on_the_way_back", found.wrong_back),
                ("rows_without_a_required_value", found.null),
            )
        ]
        if said := found.told(shape):
            return failed(self.task_id, f"{self.move}: {said}", *seen)
        return passed(self.task_id, f"{self.move}: no row of {shape.table} differs", *seen)


class AskCutover(RoleQuestion):
    """Asks the plan's role; no answer means not now, and nothing is lost: another run asks again."""

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        rules = required(plan.data_migrations, "data_migrations")
        hours = rules.low_traffic
        when = f"between {hours.opens} and {hours.closes} ({hours.timezone})" if hours else "at once"
        super().__init__(
            plan=plan, role=rules.role, seconds=rules.response_seconds, silence=NOT_NOW,
            subject="Cut over to the new columns?",
            options=[CUT_OVER, NOT_NOW], **kwargs,
        )  # fmt: skip
        self.means = {
            CUT_OVER: f"the new columns count, {when}; the old ones go on being kept.",
            NOT_NOW: "both go on being kept; another run asks again.",
        }
        self.items = [f"{one.table}: {', '.join(one.columns)}" for one in rules.tables.values()]

    def execute(self, context: Context) -> Any:
        about, who = f"{self.plan.title}: everything is filled and compared", self.plan.may_answer(self.asked.role)
        self.body = details(about, who, self.until(), NOT_NOW, means=self.means, items=self.items)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        answer = super().execute_complete(context, event)
        by = answer["responded_by_user"]
        decision = Decision(
            at=clock.epoch(), question=self.subject, choice=", ".join(answer["chosen_options"]),
            who=by["name"] if by else f"nobody (no answer in {self.asked.seconds:.0f} s)",
        )  # fmt: skip
        leave(context["ti"], DECISION_KEY, decision.model_dump(mode="json"))
        return answer


class CutOver(_MigrationStep):
    """In the hours of low traffic the new columns become what counts, if the role has said so."""

    def __init__(self, *, asked_by: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked_by = asked_by

    def work(self, run: StepRun) -> Evidence:
        try:
            said = left(run.context["ti"], self.asked_by, DECISION_KEY) or {}
        except NotSealed as error:
            return failed(self.task_id, f"nothing is cut over: {error}")
        if said.get("choice") != CUT_OVER:
            return failed(self.task_id, "nothing is cut over: nobody has said so; run this again to be asked again")
        hours = self.rules.low_traffic
        if hours and (seconds := hours.seconds_until(clock.utc())):
            self.log.info("the hours of low traffic have not begun")
            raise self.later(seconds)
        return self._done(run)

    def resume(self, context: Context, event: Any) -> Any:
        return self.conclude(context, self._done(self.step_run(context)))

    def _done(self, run: StepRun) -> Evidence:
        if who := asyncio.run(run.deploying()):
            return failed(self.task_id, f"nothing was changed: {who} holds the lock; clear this task when it has ended")
        stages, done = self.stages(), []
        for move, shape in self.shapes():
            if not stages.is_over(shape):
                said = stages.compare(shape).told(shape)  # days may have gone by since the last one
                if said:
                    return failed(self.task_id, f"by now {said}")
            stages.cut_over(shape, required=move.required)
            done.append(f"{shape.table}: {', '.join(move.columns)}")
        return passed(self.task_id, f"cut over at {clock.told(clock.epoch())}: " + "; ".join(done))


class Control(_MigrationStep):
    """What the form of the second DAG asks for."""

    def work(self, run: StepRun) -> Evidence:
        name, action = (str(run.context["params"].get(key, "")) for key in ("table", "action"))
        if name not in self.rules.tables:
            return failed(self.task_id, f"table: {name!r} is none of {', '.join(self.rules.tables)}")
        if action in ("pause", "go on"):
            return self._pause(run, name, f"by {run.asked_by}" if action == "pause" else "")
        if action not in ("abort", "contract"):
            return failed(self.task_id, f"action: {action!r} is none of pause, go on, abort, contract")
        if who := asyncio.run(run.deploying()):
            return failed(self.task_id, f"nothing was changed: {who} holds the lock; run this again when it has ended")
        stages, known = self.stages(), f"{self.plan.name}_{name}"
        if action == "abort":
            stages.abort(known, self.rules.tables[name].table)
            return passed(self.task_id, f"{name} is given up: nothing is filled any more, its columns stay as they are")
        stages.contract(known, self.rules.tables[name], self.rules.keep_seconds)
        return passed(
            self.task_id, f"{name} is contracted: the trigger and the old columns that the plan drops are gone"
        )

    def _pause(self, run: StepRun, name: str, why: str) -> Evidence:
        from handover.database.backfill import checkpoint

        with self.primary.connect() as connection:
            if not checkpoint.pause(connection, f"{self.plan.name}_{name}", why):
                return failed(self.task_id, f"{name} never began")
        return passed(self.task_id, f"{name} is paused {why}" if why else f"{name} goes on")
