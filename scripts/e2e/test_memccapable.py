"""`memccapable -a` of libmemcached-tools passes every ASCII test."""

import re
import subprocess

from conftest import ADDRESS, PORT


def test_every_ascii_test_passes(server):
    command = ["memccapable", "-a", "-h", ADDRESS, "-p", str(PORT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    results = re.findall(r"^(ascii .*?)\s+\[(\w+)\]", run.stdout, re.MULTILINE)
    assert [name for name, result in results if result != "pass"] == [], run.stdout + run.stderr
    assert len(results) == 27, run.stdout + run.stderr
    assert "All tests passed" in run.stdout + run.stderr
