"""pymemcache's own integration tests, which its wheel ships, pass: 100 of 100.

They set items that last one second and expect them a moment later. memcached counts whole seconds, and so do we: an item
of one second ends with the next tick, which may come between any two requests. The tests wait for no time to pass, so
the cache's clock stands still meanwhile.
"""

import os
import re
import subprocess
import sys

import pymemcache.test
from conftest import ADDRESS, KIND, PORT, connect, exchange


def test_its_own_integration_tests_pass_100_of_100(start):
    server = start(extra=["--debug-commands"] if KIND == "sidestep" else []).wait_until_ready()
    if KIND == "sidestep":
        with connect() as connection:
            exchange(connection, b"debugtime p\r\n", b"OK\r\n")
    folder = os.path.dirname(pymemcache.test.__file__)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder]
    command += [os.path.join(folder, "test_integration.py"), "--server", ADDRESS, "--port", str(PORT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    # The three that are skipped want TLS.
    assert re.search(r"^100 passed, 3 skipped", run.stdout, re.MULTILINE), run.stdout[-6000:]
    assert run.returncode == 0
    assert server.stop() == 0, server.errors
