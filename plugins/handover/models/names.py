"""The names of measurements: one name per concept, used by sources, rules, evidence and reports."""

from __future__ import annotations

ERROR_RATE = "error_rate"
P50 = "p50_seconds"
P95 = "p95_seconds"
P99 = "p99_seconds"
CPU = "cpu"
MEMORY = "memory"
CACHE_HIT_RATE = "cache_hit_rate"
CONNECTIONS = "database_connections"
REPLICATION_LAG = "replication_lag_seconds"
DISK_IO = "disk_bytes_per_second"
NETWORK_IO = "network_bytes_per_second"
THROUGHPUT = "requests_per_second"
NEW_ERRORS = "new_errors"
