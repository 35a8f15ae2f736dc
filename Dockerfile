# Airflow with exactly the packages of the lock file, the PostgreSQL 18 client tools that the backup needs, and the DAGs.
ARG BASE=python:3.13-slim-trixie
FROM ${BASE}

# A base of your own may bring pg_dump along, where PostgreSQL's package archive cannot be reached.
RUN apt-get update \
 && apt-get install -y --no-install-recommends curl \
 && if ! command -v pg_dump; then \
      apt-get install -y --no-install-recommends postgresql-common \
      && YES=yes /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh \
      && apt-get install -y --no-install-recommends postgresql-client-18; \
    fi \
 && rm -rf /var/lib/apt/lists/*

# Any user id may run it, as docker-compose.yaml has it: group 0 writes, and USER stands in for a missing passwd entry.
RUN useradd --create-home --home-dir /opt/airflow --uid 50000 --gid 0 airflow \
 && install -d -o airflow -g root -m 2775 /opt/airflow /opt/airflow/logs
ENV AIRFLOW_HOME=/opt/airflow HOME=/opt/airflow USER=airflow PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/airflow/config:/opt/airflow/plugins
WORKDIR /opt/airflow

COPY requirements/lock.txt /tmp/lock.txt
RUN pip install --no-cache-dir --no-deps --require-hashes -r /tmp/lock.txt && rm /tmp/lock.txt

COPY --chown=airflow:root config config
COPY --chown=airflow:root dags dags
COPY --chown=airflow:root include include
COPY --chown=airflow:root plugins plugins
USER 50000:0
