"""scripts/gdb: `shunt sockets` and `shunt connection` on a program that was stopped in the middle of an exchange.

The program (pair.py) stops itself, so gdb finds it at the same place every time. Looked at are the running program,
its core file, the program when it is about to sleep (if the build has tracepoints: where it stops at shunt:sleep) and
the program with pointers that lead nowhere.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MARK = "=== "
CONNECTING, ACCEPTED, LISTENER = 100, 101, 102


def shown(title, *commands):
    """gdb's arguments for commands whose output stands under `title`."""
    return [word for command in (f"echo \\n{MARK}{title}\\n", *commands) for word in ("-ex", command)]


def everything(suffix=""):
    return [word for fd in (CONNECTING, ACCEPTED)
            for word in shown(f"connection {fd}{suffix}", f"shunt connection {fd}")]


def write(type_name, place, value):
    """`place`: an expression of gdb's Python."""
    return f"python gdb.execute('set var *(unsigned {type_name} *) %d = %d' % (({place}).address, {value}))"


SOCKET = f"socket_of({CONNECTING})"
CONNECTION = f"{SOCKET}['connection'].dereference()"


def held():
    """This thread holds tx, and somebody waits for it; the areas are those of a device."""
    word = f"{CONNECTION}['tx']['word_']"
    return shown("held", write("int", word, "gdb.selected_thread().ptid[1] | 1 << 31"),
                 write("char", f"{CONNECTION}['relayed']", 1), f"shunt connection {CONNECTING}")


def damage():
    """Connection::own leads nowhere; the kind is none; there are more descriptors than can be."""
    look = f"shunt connection {CONNECTING}"
    return [*shown("damaged", write("long", f"{CONNECTION}['own']", 16), look,
                   write("char", f"{SOCKET}['kind']", 77), look),
            *shown("limit", write("int", "variable(LIMIT)", 0x7fffffff), "shunt sockets")]


def gdb(options, *arguments):
    """Title -> output."""
    command = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "set width 0",
               "-ex", "set confirm off", "-ex", f"source {options.scripts}/shunt.py",
               "-ex", "python from shunt_memory import LIMIT, variable", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=options.limit)
    parts = re.split(rf"^{MARK}(.*)\n", done.stdout, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}, done.stdout + done.stderr


def line_of(text, title, which=0):
    """What stands behind `title`, in the line of this title that has the number `which`."""
    return re.findall(rf"^  {re.escape(title)} +(.*)$", text, re.MULTILINE)[which]


def expect(text, title, *wanted, which=0):
    line = line_of(text, title, which)
    for piece in wanted:
        assert re.search(rf"(?<!\w){re.escape(piece)}(?!\w)", line), f"{title}: no {piece!r} in {line!r}"


def check_sockets(text, client, server):
    expect(text, f"fd {CONNECTING}", "kConnection kRings", f"127.0.0.1:{client} -> 127.0.0.1:{server}", "unread 0")
    expect(text, f"fd {ACCEPTED}", "kConnection kRings", f"127.0.0.1:{server} -> 127.0.0.1:{client}", "unread 99600")
    expect(text, f"fd {LISTENER}", "kListener", f"127.0.0.1:{server}")


def check_connecting(text, client, server):
    expect(text, "kind", "kConnection", "IPv4", "1 reference", "lock free")
    expect(text, "endpoints", f"127.0.0.1:{client} -> 127.0.0.1:{server}")
    expect(text, "carriage", "kRings")
    expect(text, "state", "connecting_side")
    expect(text, "locks", "tx free", "rx free", "bell free", "state free", "options free")
    expect(text, "writer", "head 100000", "published 100000", "in flight 100000", "2 segments in use",
           "segment 1 offset 34464")
    expect(text, "reader", "tail 0", "head 0", "unread 0")
    expect(text, "stash", "empty")
    expect(text, "header", "magic ok")
    expect(text, "hot", "head 100000", "flags none")
    expect(text, "segment 0", "base 0", "end 65536", "length 65536", "next 1", "reader's begin 400")
    expect(text, "segment 1", "base 65536", "begin 0", "end 34464", "length 34464", "next 0", "last")
    assert line_of(text, "segments", 0) == "2 segments linked"
    expect(text, "tail", "tail 400", which=1)
    assert line_of(text, "segments", 1) == "none used yet"


def check_accepted(text, client, server):
    expect(text, "endpoints", f"127.0.0.1:{server} -> 127.0.0.1:{client}")
    expect(text, "reader", "tail 400", "head 100000", "unread 99600", "offset 400")
    expect(text, "writer", "head 0", "in flight 0", "0 segments in use")
    expect(text, "own waits", "for space 0 (awake)")
    expect(text, "bell", "0 sleepers")
    expect(text, "hot", "head 100000", which=1)


def check_asleep(text):
    """Stopped at shunt:sleep, whose first argument is the descriptor."""
    assert f"$1 = {ACCEPTED}\n" in text, text
    expect(text, "reader", "tail 100000", "head 100000", "unread 0")
    assert "asleep" in line_of(text, "own waits").split(",")[0], text
    expect(text, "bell", "1 sleeper", "maybe_rung")


def check_damaged(text):
    assert text.count("cannot be read: Cannot access memory at address") >= 5, text
    expect(text, "endpoints", "127.0.0.1")  # the rest is there all the same
    expect(text, "hot", "head 0", which=1)  # of the peer's area
    expect(text, "kind", "77 (no shunt::sockets::Kind)", which=1)


def run(options, core):
    program = ["--args", f"{options.build}/bin/shunt", "run", "--", sys.executable, str(HERE / "pair.py")]
    asleep = shown("asleep", "break -probe-stap shunt:sleep", "continue", "print $_probe_arg0",
                   f"shunt connection {ACCEPTED}")
    live, output = gdb(options, "-ex", "run", *shown("sockets", "shunt sockets"), *everything(),
                       *shown("core", f"generate-core-file {core}"),
                       *(asleep if options.tracepoints else []),
                       *held(), *damage(),
                       "-ex", "kill", *program)
    ports = re.search(r"^ports (\d+) (\d+)$", live[""], re.MULTILINE)
    if "ptrace: Operation not permitted" in output:
        print("skipped: gdb may trace no program here")
        return 77
    assert ports and "SIGTRAP" in live[""], output
    client, server = ports.groups()
    check_sockets(live["sockets"], client, server)
    check_connecting(live[f"connection {CONNECTING}"], client, server)
    check_accepted(live[f"connection {ACCEPTED}"], client, server)
    if options.tracepoints:
        check_asleep(live["asleep"])
    expect(live["held"], "locks", "rx free")
    expect(live["held"], "state", "relayed")
    expect(live["held"], "fate", "open")
    assert re.match(r"tx held by thread 1 \(LWP \d+\) with waiters, ", line_of(live["held"], "locks")), output
    check_damaged(live["damaged"])
    assert "the table's limit is damaged" in output and "Traceback" not in output, output
    dead, output = gdb(options, *everything(), sys.executable, str(core))
    for title in (f"connection {CONNECTING}", f"connection {ACCEPTED}"):
        assert live[title].strip() == dead[title].strip(), output
    print(live[f"connection {ACCEPTED}"])
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--scripts", required=True)
    parser.add_argument("--tracepoints", action="store_true", help="the build has them")
    parser.add_argument("--limit", type=int, default=80, help="seconds for each run of gdb")
    options = parser.parse_args()
    if shutil.which("gdb") is None:
        print("skipped: gdb is not installed")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        return run(options, pathlib.Path(directory) / "core")


if __name__ == "__main__":
    sys.exit(main())
