"""Tables in which tools write down what they have migrated: a database that has rows in these alone is still empty."""

from __future__ import annotations

LEDGERS = (
    "handover_data_migrations",
    "_prisma_migrations",
    "alembic_version",
    "django_migrations", "django_content_type", "auth_permission",  # Django fills these with every migration
    "flyway_schema_history",
    "databasechangelog", "databasechangeloglock",  # Liquibase
    "schema_migrations", "ar_internal_metadata",  # Rails; the first of golang-migrate, dbmate and Ecto, too
    "goose_db_version",
    "migrations",  # TypeORM, Laravel
    "knex_migrations", "knex_migrations_lock",
    "kysely_migration", "kysely_migration_lock",
    "SequelizeMeta",
    "__drizzle_migrations",
    "mikro_orm_migrations",
    "pgmigrations",  # node-pg-migrate
    "__EFMigrationsHistory",
    "_sqlx_migrations",
    "__diesel_schema_migrations",
    "refinery_schema_history",
    "atlas_schema_revisions",
)  # fmt: skip
