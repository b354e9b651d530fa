"""curl against python3 -m http.server: files up to 64 MiB, several on one connection, uploads refused."""
import hashlib
import os
import random

from harness import case, run_id, status

PORT = "7080"
SIZES = [0, 1, 1000, 65_535, 65_536, 65_537, 1 << 20, (5 << 20) + 3, 64 << 20]


def make_files():
    directory = os.path.join(run_id.directory(), "www")
    os.makedirs(directory, exist_ok=True)
    sums = {}
    for size in SIZES:
        data = random.Random(size).randbytes(size)
        with open(os.path.join(directory, f"f{size}"), "wb") as f:
            f.write(data)
        sums[f"f{size}"] = hashlib.sha256(data).hexdigest()
    return directory, sums


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fetch(stage, names, *options):
    """Fetches all names with one curl; returns (sums, number of connections made)."""
    out = os.path.join(run_id.directory(), "fetched")
    os.makedirs(out, exist_ok=True)
    argv = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", *options,
            "--write-out", "%{http_code} %{num_connects} %{size_download}\\n"]
    for name in names:
        argv += [f"http://{stage.host}:{PORT}/{name}", "--output", os.path.join(out, name)]
    with stage.start("client", argv) as client:
        lines = client.rest().decode().split("\n")[:-1]
        client.succeed()
    assert all(line.startswith("200 ") for line in lines), lines
    sums = {}
    for name in names:
        sums[name] = sha256(os.path.join(out, name))
        os.unlink(os.path.join(out, name))
    return sums, sum(int(line.split()[1]) for line in lines)


def exchange(stage):
    directory, expected = make_files()
    server = stage.start("server", ["/usr/bin/python3", "-u", "-m", "http.server", PORT, "--bind", stage.host,
                                    "--protocol", "HTTP/1.1", "--directory", directory], name="http.server")
    server.line_with("Serving HTTP on")
    for name in expected:  # one connection each
        sums, _ = fetch(stage, [name])
        assert sums[name] == expected[name], name
    sums, connections = fetch(stage, list(expected))  # all on one
    assert sums == expected
    assert connections == 1, f"{connections} connections instead of one kept alive"
    sums, parallel = fetch(stage, list(expected), "--parallel", "--parallel-immediate")
    assert sums == expected
    status.check_carried(stage, server, sent=3 * sum(SIZES), received=1000,
                         connections=len(SIZES) + 1 + parallel)
    server.kill(15)
    server.wait()
    return sums


case.main(exchange, description=__doc__)
