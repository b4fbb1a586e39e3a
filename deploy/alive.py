"""Exits with 0 when the web process of this container answers: the image has no curl."""  # noqa: INP001 - a script

import http.client
import os
import sys

TIMEOUT_SECONDS = 2.0  # it answers within milliseconds; the image's own limit is 3 s

connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=TIMEOUT_SECONDS)
try:
    connection.request("GET", "/health/live")
    sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
except OSError as error:
    sys.exit(f"no answer: {error}")
