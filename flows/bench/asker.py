"""A process of its own that asks queries through REST, one after the other, and writes down how long each took, in milliseconds.

Run as a script: {"address", "queries"} on standard input, a list of times on standard output. It imports nothing of ours.
"""

import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    given = json.load(sys.stdin)
    connection = http.client.HTTPConnection(urlsplit(given["address"]).netloc, timeout=60)
    took = []
    for query in given["queries"]:
        body = json.dumps(query)
        start = time.perf_counter()
        connection.request("POST", "/v1/search", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        took.append((time.perf_counter() - start) * 1000)
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {text.decode()[:300]}")
    json.dump(took, sys.stdout)


if __name__ == "__main__":
    main()
