"""What bounds everything else on this machine: the database alone, bare HTTP alone, and the load client itself."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import load, pgbench, wire
from benchmarks.bench import Bench
from benchmarks.loop import loop
from benchmarks.processes import HOST, answers, free_port, program, wait_for
from benchmarks.results import Row


def limits(bench: Bench) -> Iterator[Row]:
    seconds = bench.of(5.0, 1.5)
    yield from _database_alone(bench, seconds)
    with bench.world.database() as database, loop(database, 8, through_the_bus=False) as bare:
        bare(0.5)
        yield Row("limit-psycopg", "the same statements by psycopg, one process, 8 threads", bare(seconds), "/s")
    with bench.world.database() as database, bench.world.bare_endpoint(database) as address:
        noop = load.run(address, wire.always(wire.get("/noop")), 8, seconds=seconds)
        yield Row("limit-http", "an endpoint that does nothing, under the same server, 8 clients", noop.rate, "/s")
    port = free_port()
    with program("benchmarks.responder", str(port), log=bench.world.log):
        wait_for(lambda: answers(port), "the responder answers")
        most = load.run((HOST, port), wire.orders("order", ["SKU-0000"]), 8, seconds=seconds)
        yield Row(
            "limit-client",
            "the load client, when every answer comes at once",
            most.rate,
            "/s",
            behind=f"{most.cpu_per_request * 1e6:.0f} µs of CPU a request",
        )


def _database_alone(bench: Bench, seconds: float) -> Iterator[Row]:
    if pgbench.program():
        with bench.world.database() as database:
            rate = pgbench.run(database, 8, round(seconds))
            yield Row("limit-database", "the same statements by pgbench, 8 clients", rate, "/s")
    else:
        print("no pgbench beside the embedded PostgreSQL: left out")
