"""`memccapable` of libmemcached-tools passes with us what it passes with memcached 1.6.45: 52 of 54 tests.

The two that delete over the text protocol want `delete a b c d e` refused. memcached 1.6.45 takes the first word for the
key and ignores the rest.
"""

import re
import subprocess

from conftest import ADDRESS, PORT

NOT_PASSED = {"ascii delete", "ascii delete noreply"}


def passed(address: str, port: int) -> tuple[list[str], str]:
    """The names of the tests that pass with the server there, and all that was printed."""
    command = ["memccapable", "-h", address, "-p", str(port)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # The name of a test that fails has no verdict on its line.
    return re.findall(r"((?:ascii|binary) \w+(?: noreply)?)\s+\[pass\]", run.stdout), run.stdout + run.stderr


def test_what_passes_with_memcached_passes(server, oracle):
    names, said = passed(ADDRESS, PORT)
    assert len([name for name in names if name.startswith("ascii")]) == 25, said
    assert len([name for name in names if name.startswith("binary")]) == 27, said
    assert not NOT_PASSED & set(names), said
    assert "2 of 54 tests failed" in said, said
    assert passed("127.0.0.1", oracle)[0] == names
