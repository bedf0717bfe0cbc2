"""A stream that writes an event per second, and a page that answers immediately, on one thread."""

import itertools
import os
import time

from flask import Flask, Response

app = Flask(__name__)


@app.get("/stream")
def stream():
    def ticks():
        for n in itertools.count(1):
            yield f"data: {n}\n\n"
            time.sleep(1)

    return Response(ticks(), mimetype="text/event-stream")


@app.get("/<path:path>")
def page(path):
    return Response("up\n", mimetype="text/plain")


app.run("127.0.0.1", int(os.environ["PORT"]), threaded=False)
