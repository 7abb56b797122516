"""What work on the production profile used: S3's requests and bytes, processors, PostgreSQL's rows and disk.

Requests and bytes are the S3 gateway's own counters. Processor seconds are the kernel's, of the whole machine, on which
nothing else may run: `servers_cpu_s` are those of PostgreSQL, S3 and MLflow with all their processes, `cpu_s` all
others, which are the platform's own: the run, Ray and Dagster. What they use when idle is in both.
Not here: what is measured so (ingestion_on_s3.py, build_on_s3.py).
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
import psycopg

from infra.production.parts import Park

OF_THE_GATEWAY = {
    "requests": "req", "reads": "get", "bytes_read": "get_b", "writes": "put", "bytes_written": "put_b",
    "failed": "failed_req",
}  # fmt: skip
"""The gateway's names of what we count; `failed` are mostly questions for what is not there."""
SERVERS = ("PostgreSQL", "ceph-", "radosgw", "MLflow")
"""Names of their processes begin so."""
DATABASES = ("dagster", "mlflow", "ledger")
COUNTED = (*OF_THE_GATEWAY, "cpu_s", "servers_cpu_s", "database_bytes", *(f"{name}_rows" for name in DATABASES))
TABLES = """SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""


@contextmanager
def counting(park: Park) -> Iterator[dict[str, float]]:
    """What the `with` used, there when it ends, by the names in COUNTED."""
    found = dict[str, float]()
    before = {**_of_the_gateway(park), **_of_the_databases(park), **_of_processors(park)}
    yield found
    after = {**_of_processors(park), **_of_the_gateway(park), **_of_the_databases(park)}  # counting costs some, too
    found.update({name: round(after[name] - before[name], 2) for name in COUNTED})


def _of_processors(park: Park) -> dict[str, float]:
    servers_s = _servers_cpu_s(park)
    return {"cpu_s": _machine_cpu_s() - servers_s, "servers_cpu_s": servers_s}


def _of_the_gateway(park: Park) -> dict[str, float]:
    gateway = next(process for process in park.processes if process.name == "radosgw")
    socket = next(gateway.log.parent.glob(f"client.rgw.{gateway.popen.pid}.asok"))
    told = subprocess.run(["ceph", "--admin-daemon", str(socket), "perf", "dump"], capture_output=True, check=True)
    counters = json.loads(told.stdout)["rgw"]
    return {name: int(counters[theirs]) for name, theirs in OF_THE_GATEWAY.items()}


def _machine_cpu_s() -> float:
    """All that processors did since the machine started, but for waiting and for other machines on the same host."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _servers_cpu_s(park: Park) -> float:
    """With the processes below them; those that have ended count as their parents'."""
    roots = [psutil.Process(process.popen.pid) for process in park.processes if process.name.startswith(SERVERS)]
    total = 0.0
    for process in [below for root in roots for below in (root, *root.children(recursive=True))]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _of_the_databases(park: Park) -> dict[str, int]:
    """Rows of each, in all tables, and the bytes of all together."""
    told = {**park.variables, **park.of_mlflow}
    names = ("PETPARK_DATABASE", "MLFLOW_BACKEND_STORE_URI", "PETPARK_LEDGER")
    found = {"database_bytes": 0}
    for database, name in zip(DATABASES, names, strict=True):
        with psycopg.connect(told[name].replace("+psycopg2", "")) as connection:
            found["database_bytes"] += _number(connection, "SELECT pg_database_size(current_database())")
            tables = [table for (table,) in connection.execute(TABLES)]
            queries = [f"SELECT count(*) FROM {table}" for table in tables]  # noqa: S608 - names of our own tables
            found[f"{database}_rows"] = sum(_number(connection, query) for query in queries)
    return found


def _number(connection: psycopg.Connection, query: str) -> int:
    (found,) = connection.execute(query.encode()).fetchone() or (0,)
    return int(found)
