"""Programs whose connections other programs inherit: socat with EXEC, an inetd, bash's /dev/tcp,
Python's subprocess. Each connection begins in shared memory.
"""
import hashlib
import os
import random

from harness import case, run_id, settings, status

PORT = 7555
HARNESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness")
BARE = "env -u LD_PRELOAD -u SHUNT_WINDOW -u SHUNT_PARTITION -u SHUNT_REQUIRE"


def began_in_shared_memory(stage, process, connections=1):
    """The live `process` set its connections up in shared memory, none by kernel TCP.

    How the counters go on for a connection that has been downgraded is no matter here.
    """
    if not stage.shunted:
        return
    found = status.totals(stage, process)
    if found["shared_memory"]["connections"] < connections or found["kernel"]["connections"]:
        raise status.NotCarried(f"{process.name}: {found}")


def next_port():
    global PORT
    PORT += 1
    return str(PORT)


def make_file(size):
    path = os.path.join(run_id.directory(), f"file-{size}")
    with open(path, "wb") as f:
        f.write(random.Random(size).randbytes(size))
    return path


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def start_python(stage, side, script, *arguments, **options):
    argv = ["/usr/bin/python3", "-u", os.path.join(HARNESS, script), *arguments]
    return stage.start(side, argv, name=script.removesuffix(".py"), **options)


def start_inetd(stage, *command):
    port = next_port()
    server = start_python(stage, "server", "inetd.py", stage.host, port, *command)
    server.line_with("ready")
    return server, port


def start_socat_server(stage, options, address):
    port = next_port()
    listener = f"TCP4-LISTEN:{port},bind={stage.host},reuseaddr{options}"
    server = stage.start("server", ["socat", "-d", "-d", listener, address], name="socat-server",
                         stderr_lines=True)
    server.line_with("listening on")
    return server, port


def ask(stage, port):
    """A dialogue, and a file there and back, with a program that sends everything back."""
    target = f"TCP4:{stage.host}:{port}"
    client = stage.start("client", ["socat", "STDIO", target], name="socat-client", stdin="hold")
    said = []
    for i in range(20):
        client.give(f"line {i}\n".encode())
        said.append(client.line())
    began_in_shared_memory(stage, client)
    client.release()
    client.succeed()
    path, out = make_file(3_000_000), os.path.join(run_id.directory(), f"answer-{port}")
    stage.start("client", ["socat", "-t", "30", "STDIO", target], stdin=path, stdout=out,
                name="socat-client").succeed()
    assert digest(out) == digest(path), "the file came back otherwise"
    return said


def socat_server(stage):
    """The child of each connection becomes the program, with or without the provider."""
    said = []
    for command in ("/bin/cat", f"{BARE} /bin/cat"):
        for option in (",nofork", ""):
            server, port = start_socat_server(stage, ",fork", f"EXEC:{command}{option}")
            said.append(ask(stage, port))
            server.end()
    return said


def socat_client(stage):
    """The client becomes the program, whose end of input is the server's end of file."""
    path = make_file(2_000_000)
    results = []
    for environment in ("", BARE + " "):
        server, port = start_socat_server(stage, "", f"OPEN:{path},rdonly")
        out = os.path.join(run_id.directory(), f"got-{port}")
        target = f"TCP4:{stage.host}:{port}"
        sum_ = stage.start("client", ["socat", target, f"SYSTEM:{environment}sha256sum >{out},nofork"],
                           name="socat-client")
        sum_.succeed()
        server.end()
        with open(out, encoding="ascii") as f:
            results.append(f.read().split()[0])
    assert results == [digest(path)] * 2, results
    return results


def inetd(stage):
    said = []
    for command in (["/bin/cat"], [*BARE.split(), "/bin/cat"], ["/bin/sh", "-c", "cat | cat"]):
        server, port = start_inetd(stage, *command)
        said.append(ask(stage, port))
        server.end()
    shell = "read -r name; echo hello $name; expr 6 '*' 7; head -c 5; echo; seq 1 3000; echo end"
    server, port = start_inetd(stage, "/bin/bash", "-c", shell)
    client = stage.start("client", ["socat", "STDIO", f"TCP4:{stage.host}:{port}"], stdin="hold",
                         name="socat-client")
    client.give(b"you\n12345")
    lines = []
    while not lines or lines[-1] != "end":
        lines.append(client.line())
    began_in_shared_memory(stage, client)
    client.release()
    client.succeed()
    server.end()
    return said + lines


BASH = r"""
exec 3<>"/dev/tcp/$1/$2"
read -r greeting <&3; echo "builtin: $greeting"
echo "child: $(head -c 19 <&3)"
printf 'from the shell\n' >&3
seq 1 30000 >&3
BARE seq 1 30000 >&3
printf 'shell again\n' >&3
cat <&3 | sha256sum &
printf 'end\n' >&3
wait $!
echo status $?
"""

BASH_TWO_WAYS = r"""
exec 3<>"/dev/tcp/$1/$2"
echo "$(head -c 27 <&3)"
BARE cat <&3 >"$3" &
reader=$!
for part in 1 2 3; do seq $part 20000; printf 'a word from printf\n'; done >&3
BARE echo end >&3
exec 3>&-
wait $reader
sha256sum <"$3"
"""


def bash(stage):
    server_port = next_port()
    server = start_python(stage, "server", "line_server.py", stage.host, server_port)
    server.line_with("ready")
    outputs = []
    for script in (BASH, BASH_TWO_WAYS):
        for environment in ("", BARE):
            out = os.path.join(run_id.directory(), f"bash-{len(outputs)}")
            shell = stage.start("client", ["/bin/bash", "-c", script.replace("BARE", environment), "bash",
                                           stage.host, server_port, out], name="bash")
            outputs.append(shell.rest().decode())
            shell.succeed()
    began_in_shared_memory(stage, server, len(outputs))
    server.end()
    return outputs


def parent(stage):
    """Children use the connection, or only inherit it; without inheriting it stays in shared memory."""
    server, port = start_echo(stage)
    seen = []
    for way in ("subprocess", "leak", "cloexec"):
        for bare in ("0", "1"):
            client = start_python(stage, "client", "parent.py", stage.host, port, way, bare, stdin="hold")
            lines = []
            while not lines or not lines[-1].startswith("end"):
                lines.append(client.line())
            began_in_shared_memory(stage, client)
            if way == "cloexec":
                status.check_carried(stage, client, sent=300_000, received=300_000)
            client.release()
            client.succeed()
            seen.append(lines)
    began_in_shared_memory(stage, server, len(seen))
    server.end()
    return seen


def start_echo(stage):
    """An echo server whose connections nobody inherits."""
    port = next_port()
    listener = f"TCP4-LISTEN:{port},bind={stage.host},fork,reuseaddr"
    server = stage.start("server", ["socat", "-d", "-d", listener, "PIPE"], name="socat-echo",
                         stderr_lines=True)
    server.line_with("listening on")
    return server, port


def handover(stage):
    """Both ends' programs become others; every byte is compared."""
    program = settings.program("inheritor")

    def become(environment, steps):
        return f"EXEC:{environment}{program} 0\\,1 {steps},nofork".replace("*", "\\:")

    results = []
    for bare in (False, True):
        environment = f"{BARE} " if bare else ""
        server, port = start_socat_server(
            stage, "", become(environment, "send*1*0*3000000 recv*2*0*3000000 eof"))
        client = stage.start(
            "client", ["socat", f"TCP4:{stage.host}:{port}",
                       become(environment, "recv*1*0*3000000 send*2*0*3000000")], name="socat-client")
        results.append((client.wait(30), server.wait(30)))
        server.rest()
    assert results == [(0, 0)] * 2, results
    return results


PARTS = {"socat-server": socat_server, "socat-client": socat_client, "inetd": inetd, "bash": bash,
         "parent": parent, "handover": handover}


def exchange(stage):
    wanted = PARTS if OPTIONS.part == "all" else {OPTIONS.part: PARTS[OPTIONS.part]}
    return {name: case.timed(f"{stage.mode}, {name}", part, stage) for name, part in wanted.items()}


p = case.parser(__doc__)
p.add_argument("--part", choices=["all", *PARTS], default="all")
OPTIONS = p.parse_args()
case.main(exchange, OPTIONS)
