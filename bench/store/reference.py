"""Miss ratios of libcachesim's policies on one trace: prints a JSON object, policy to miss ratio of the requests from COUNTED on.

usage: reference.py TRACE REQUESTS COUNTED BYTES POLICY...
"""

import json
import sys

import libcachesim


def main() -> None:
    trace, policies = sys.argv[1], sys.argv[5:]
    requests, counted, size = (int(text) for text in sys.argv[2:5])
    ratios = {}
    for policy in policies:
        reader = libcachesim.TraceReader(trace, libcachesim.TraceType.ORACLE_GENERAL_TRACE)
        cache = getattr(libcachesim, policy)(size)
        cache.process_trace(reader, 0, counted)
        # The cache keeps what it holds; the reader goes on at the request named.
        ratios[policy], _ = cache.process_trace(reader, counted, requests - counted)
        print(policy, ratios[policy], file=sys.stderr)
    json.dump(ratios, sys.stdout)


main()
