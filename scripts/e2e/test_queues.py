"""As many queues as cores, more, and fewer: stock clients are served by every core (of devices without queues: test_tap.py)."""

import pytest
from conftest import only_sidestep, serve_stock_clients


@only_sidestep
@pytest.mark.parametrize(
    ("threads", "said"),
    [(1, "up to 2 queues a core"), (2, "one queue a core"), (3, "1 cores have no queue"), (5, "3 cores have no queue")],
)
def test_stock_clients_are_served_by_every_core_however_many_there_are_for_two_queues(start, threads, said):
    server = start(threads=threads).wait_until_ready()
    assert any(said in line for line in server.lines), server.lines
    # So many that no core is without one by chance.
    serve_stock_clients(count=64, step=100)
    assert server.stop() == 0, server.errors
    cores = server.core_reports()
    assert len(cores) == threads and all(core["connections"] > 0 for core in cores), server.lines
