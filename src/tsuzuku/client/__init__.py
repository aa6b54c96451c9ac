"""A typed client of the HTTP API, with the errors of the server.

with Client("http://127.0.0.1:8000") as client:
    started = client.start("vae", "mnist", epochs=10)
    for event in client.follow(started.run_id):
        print(event.type, event.payload)
"""

from tsuzuku.client.calls import Client
from tsuzuku.client.problems import Unreachable, WrongToken

__all__ = ["Client", "Unreachable", "WrongToken"]
