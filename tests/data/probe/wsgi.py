"""A stream that writes an event per second, and a page that answers immediately."""

import itertools
import time


def ticks():
    for n in itertools.count(1):
        yield b"data: %d\n\n" % n
        time.sleep(1)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
        return ticks()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"up\n"]
