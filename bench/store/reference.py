"""Miss ratios of libcachesim's policies on one trace: prints a JSON object, policy to miss ratio of the requests from COUNTED on.

usage: reference.py TRACE REQUESTS COUNTED BYTES POLICY...
"""

import json
import sys

import libcachesim


def run(trace: str, policy: str, size: int, requests: int) -> tuple[float, float]:
    reader = libcachesim.TraceReader(trace, libcachesim.TraceType.ORACLE_GENERAL_TRACE)
    return getattr(libcachesim, policy)(size).process_trace(reader, 0, requests)


def main() -> None:
    trace, policies = sys.argv[1], sys.argv[5:]
    requests, counted, size = (int(text) for text in sys.argv[2:5])
    ratios = {}
    for policy in policies:
        # Twice from the start, and the misses of the beginning taken from those of the whole: Belady, asked to go on
        # in a trace, misses nothing (libcachesim 0.3.5).
        whole, _ = run(trace, policy, size, requests)
        before, _ = run(trace, policy, size, counted)
        ratios[policy] = (whole * requests - before * counted) / (requests - counted)
        print(policy, ratios[policy], file=sys.stderr)
    json.dump(ratios, sys.stdout)


main()
