# Airflow with exactly the packages of the lock file, and the PostgreSQL 18 client tools that the backup needs.
FROM python:3.13-slim-trixie
RUN apt-get update \
 && apt-get install -y --no-install-recommends curl postgresql-common \
 && YES=yes /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh \
 && apt-get install -y --no-install-recommends postgresql-client-18 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --home-dir /opt/airflow --uid 50000 airflow \
 && install -d -o airflow /opt/airflow/logs
COPY requirements/lock.txt /tmp/lock.txt
RUN pip install --no-cache-dir --no-deps -r /tmp/lock.txt && rm /tmp/lock.txt
ENV AIRFLOW_HOME=/opt/airflow PYTHONUNBUFFERED=1
USER airflow
WORKDIR /opt/airflow
