"""`memccapable` of libmemcached-tools passes all 54 tests: 27 of the text protocol, 27 of the binary one."""

import re
import subprocess

from conftest import ADDRESS, PORT


def test_all_54_pass(server):
    command = ["memccapable", "-h", ADDRESS, "-p", str(PORT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    results = re.findall(r"^((?:ascii|binary) .*?)\s+\[(\w+)\]", run.stdout, re.MULTILINE)
    assert [name for name, result in results if result != "pass"] == [], run.stdout + run.stderr
    assert len([name for name, _ in results if name.startswith("ascii")]) == 27, run.stdout + run.stderr
    assert len([name for name, _ in results if name.startswith("binary")]) == 27, run.stdout + run.stderr
    assert "All tests passed" in run.stdout + run.stderr
