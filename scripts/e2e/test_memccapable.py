"""`memccapable` of libmemcached-tools passes with us what it passes with memcached 1.6.45: 52 of 54 tests.

The two that delete over the text protocol want `delete a b c d e` refused. memcached 1.6.45 takes the first word for the
key and ignores the rest.
"""

import os
import re
import subprocess
import time

from conftest import ADDRESS, PORT

NOT_PASSED = {"ascii delete", "ascii delete noreply"}


def passed(address: str, port: int) -> tuple[list[str], str]:
    """The names of the tests that pass with the server there, and all that was printed."""
    command = ["memccapable", "-h", address, "-p", str(port)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # The name of a test that fails has no verdict on its line.
    return re.findall(r"((?:ascii|binary) \w+(?: noreply)?)\s+\[pass\]", run.stdout), run.stdout + run.stderr


def test_what_passes_with_memcached_passes(server, tmp_path):
    names, said = passed(ADDRESS, PORT)
    assert len([name for name in names if name.startswith("ascii")]) == 25, said
    assert len([name for name in names if name.startswith("binary")]) == 27, said
    assert not NOT_PASSED & set(names), said
    assert "2 of 54 tests failed" in said, said

    program = subprocess.run(["scripts/memcached", "1.6.45"], capture_output=True, text=True, check=True).stdout.strip()
    ports = tmp_path / "ports"
    # memcached writes there which port it has chosen.
    environment = os.environ | {"MEMCACHED_PORT_FILENAME": str(ports)}
    command = [program, "-u", "root", "-l", "127.0.0.1", "-p", "-1", "-U", "0"]
    with subprocess.Popen(command, env=environment) as memcached:
        try:
            for _ in range(3000):
                if ports.exists() or memcached.poll() is not None:
                    break
                time.sleep(0.01)
            port = int(re.search(r"TCP INET: (\d+)", ports.read_text()).group(1))
            assert passed("127.0.0.1", port)[0] == names
        finally:
            memcached.terminate()
