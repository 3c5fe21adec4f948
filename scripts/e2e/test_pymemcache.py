"""pymemcache's own integration tests, which its wheel ships, pass: 100 of 100."""

import os
import re
import subprocess
import sys

import pymemcache.test
from conftest import ADDRESS, PORT


def test_its_own_integration_tests_pass_100_of_100(server):
    folder = os.path.dirname(pymemcache.test.__file__)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder]
    command += [os.path.join(folder, "test_integration.py"), "--server", ADDRESS, "--port", str(PORT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    # The three that are skipped want TLS.
    assert re.search(r"^100 passed, 3 skipped", run.stdout, re.MULTILINE), run.stdout[-6000:]
    assert run.returncode == 0
