"""What the DAGs of a plan are called."""

from __future__ import annotations


class DagIds:
    """Each is the plan's name and what the DAG is for."""

    name: str

    @property
    def deployment_dag_id(self) -> str:
        return f"{self.name}_deployment"

    @property
    def rollback_dag_id(self) -> str:
        return f"{self.name}_rollback"

    @property
    def import_dag_id(self) -> str:
        return f"{self.name}_data_import"

    @property
    def data_migration_dag_id(self) -> str:
        return f"{self.name}_data_migration"

    @property
    def data_migration_control_dag_id(self) -> str:
        """Pauses, goes on, gives up and contracts."""
        return f"{self.name}_data_migration_control"

    @property
    def seed_dag_id(self) -> str:
        return f"{self.name}_seed"

    @property
    def followups_dag_id(self) -> str:
        return f"{self.name}_followups"

    @property
    def readiness_dag_id(self) -> str:
        return f"{self.name}_readiness"

    @property
    def announcements_dag_id(self) -> str:
        return f"{self.name}_announcements"

    @property
    def redelivery_dag_id(self) -> str:
        return f"{self.name}_redelivery"

    @property
    def dry_run_dag_id(self) -> str:
        return f"{self.name}_dry_run"

    @property
    def watchdog_dag_id(self) -> str:
        return f"{self.name}_watchdog"
