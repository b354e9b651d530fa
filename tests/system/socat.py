"""socat: a forking file server, a program behind a listener (EXEC with pipes and sockets), STDIO."""
import os
import random

from harness import case, run_id, status

PORT = "7444"


def make_file(name, size):
    path = os.path.join(run_id.directory(), name)
    with open(path, "wb") as f:
        f.write(random.Random(size).randbytes(size))
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def listen(stage, options, address, *flags, **process_options):
    listener = f"TCP4-LISTEN:{PORT},bind={stage.host},reuseaddr{options}"
    server = stage.start("server", ["socat", "-d", "-d", *flags, listener, address], name="socat-server",
                         stdin=process_options.pop("stdin", "null"), stderr_lines=True, **process_options)
    server.line_with("listening on")
    return server


def connect(stage, address, *flags, **options):
    return stage.start("client", ["socat", *flags, address, f"TCP4:{stage.host}:{PORT}"],
                       name="socat-client", **options)


def file_server(stage):
    """A child per connection sends the file and ends."""
    path = make_file("served", 8_000_001)
    server = listen(stage, ",fork", f"OPEN:{path},rdonly", "-U")
    for i in range(4):
        out = os.path.join(run_id.directory(), f"received-{i}")
        with stage.start("client", ["socat", "-u", f"TCP4:{stage.host}:{PORT}", f"CREATE:{out}"]) as client:
            client.succeed()
        assert read(out) == read(path)
    server.end()


def upload(stage):
    path = make_file("uploaded", 5_000_003)
    out = os.path.join(run_id.directory(), "taken")
    server = listen(stage, "", f"CREATE:{out}", "-u")
    connect(stage, f"OPEN:{path},rdonly", "-u").succeed()
    server.succeed()
    assert read(out) == read(path)


def program_behind(stage, kind):
    """cat behind the listener: what goes in comes back, also after end of input."""
    path = make_file("question", 3_000_000)
    out = os.path.join(run_id.directory(), "answer")
    server = listen(stage, "", f"EXEC:/bin/cat{kind}")
    client = connect(stage, "STDIO", "-t", "30", stdin=path, stdout=out)
    client.succeed()
    server.succeed()
    assert read(out) == read(path), kind


def dialogue(stage):
    server = listen(stage, ",fork", "EXEC:/bin/cat,pipes")
    client = connect(stage, "STDIO", stdin="hold")
    said = []
    for i in range(50):
        client.give(f"line {i}\n".encode())
        said.append(client.line())
    payload = sum(len(line) + 1 for line in said)
    status.check_carried(stage, client, sent=payload, received=payload)
    status.check_carried(stage, server, sent=payload, received=payload)
    client.release()
    client.succeed()
    server.end()
    return said


def exchange(stage):
    file_server(stage)
    upload(stage)
    program_behind(stage, ",pipes")
    program_behind(stage, "")
    return dialogue(stage)


case.main(exchange, description=__doc__)
