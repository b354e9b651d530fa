"""netcat-openbsd: files both ways at once with end of stream (-N), and a dialogue line by line."""
import os
import random
import time

from harness import case, run_id, status

PORT = "7333"


def make_file(name, size):
    path = os.path.join(run_id.directory(), name)
    with open(path, "wb") as f:
        f.write(random.Random(size).randbytes(size))
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def wait_for_size(path, size):
    deadline = time.monotonic() + 60
    while os.path.getsize(path) < size:
        assert time.monotonic() < deadline, f"{path} has {os.path.getsize(path)} of {size} bytes"
        time.sleep(0.005)


def listen(stage, **options):
    server = stage.start("server", ["nc", "-v", "-n", "-N", "-l", stage.host, PORT], stderr_lines=False,
                         name="nc-server", **options)
    deadline = time.monotonic() + 20
    while "Listening on" not in server.errors():
        assert time.monotonic() < deadline and server.running(), server.errors()
        time.sleep(0.005)
    return server


def both_ways(stage, there_size, back_size):
    there, back = make_file("there", there_size), make_file("back", back_size)
    got_there, got_back = (os.path.join(run_id.directory(), n) for n in ("got-there", "got-back"))
    server = listen(stage, stdin=back, stdout=got_there)
    client = stage.start("client", ["nc", "-n", "-N", stage.host, PORT], stdin="hold", stdout=got_back,
                         name="nc-client")
    client.give(read(there))
    wait_for_size(got_there, there_size)  # both live: look at the counters now
    wait_for_size(got_back, back_size)
    status.check_carried(stage, server, sent=back_size, received=there_size)
    status.check_carried(stage, client, sent=there_size, received=back_size)
    client.release()
    for process in (client, server):
        process.succeed()
    assert read(got_there) == read(there), "client to server"
    assert read(got_back) == read(back), "server to client"


def dialogue(stage):
    server = listen(stage, stdin="hold")
    client = stage.start("client", ["nc", "-n", "-N", stage.host, PORT], stdin="hold", name="nc-client")
    said = []
    for i in range(50):
        client.give(f"question {i}\n".encode())
        said.append(server.line())
        server.give(f"answer {i}\n".encode())
        said.append(client.line())
    server.release()  # half close by the server
    assert client.running()
    client.give(b"last\n")
    said.append(server.line())
    client.release()
    for process in (client, server):
        process.succeed()
    return said


def exchange(stage):
    both_ways(stage, 20_000_000, 10_000_000)
    both_ways(stage, 1, 0)
    both_ways(stage, 0, 3_000_000)
    return dialogue(stage)


case.main(exchange, description=__doc__)
