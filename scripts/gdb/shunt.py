"""gdb: what libshunt.so knows of a program's sockets, in a running process or in a core file.

  gdb -x scripts/gdb/shunt.py -p PID      or, inside gdb: source scripts/gdb/shunt.py
  (gdb) shunt sockets                     one line for each descriptor
  (gdb) shunt connection FD               everything about one: positions, locks, who sleeps, both areas

libshunt.so must have its debug information, as the release preset builds it. Memory is read and nothing else: no
function of the program is called, nothing in it changes. Memory may be damaged, or be missing in a core file: what
cannot be read is said in its place, and the rest is printed all the same.
"""

import os
import sys

import gdb

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import shunt_area  # noqa: E402
from shunt_memory import (AREA, ERRORS, SOCKET, at, endpoint_text, entries, enumerator, family_text,  # noqa: E402
                          lock_text, number, plural, pointer, put)


def socket_of(fd):
    """The Socket in the table under `fd`."""
    address = dict(entries()).get(fd)
    if address is None:
        raise gdb.GdbError(f"descriptor {fd} is not in libshunt.so's table")
    return at(SOCKET, address)


def has_connection(socket):
    return kind_of(socket) in ("kConnection", "kPlain") and pointer(socket["connection"]) != 0


def kind_of(socket):
    return enumerator("shunt::sockets::Kind", number(socket["kind"]))


def carriage_of(connection):
    return enumerator("shunt::conn::Carriage", number(connection["carriage"]))


def endpoints_text(connection):
    return f"{endpoint_text(connection['local'])} -> {endpoint_text(connection['remote'])}"


def in_flight(connection):
    return number(connection["writer"]["head"]) - number(connection["writer"]["tail"])


def unread(connection):
    return number(connection["reader"]["head"]) - number(connection["reader"]["tail"])


def socket_text(socket):
    """For `shunt sockets`."""
    kind = kind_of(socket)
    if has_connection(socket):
        c = socket["connection"].dereference()
        return (f"{kind} {carriage_of(c)}, {endpoints_text(c)}, in flight {in_flight(c)}, unread {unread(c)}")
    if pointer(socket["listener"]) != 0:
        return f"{kind} {endpoint_text(socket['listener']['local'])}"
    if kind == "kEpoll":
        return kind
    reason = enumerator("shunt::wire::Reason", number(socket["reason"]))
    return f"{kind} {family_text(number(socket['family']))}, reason {reason}"


def state_text(c):
    state = c["state"]
    values = {field.name: number(state[field.name]) for field in state.type.fields()}
    told = [name if name != "pending_error" else f"{name} {value}" for name, value in values.items() if value]
    told += [name for name in ("trouble", "gone_noticed", "nonblocking", "relayed", "connecting_side")
             if number(c[name])]
    return ", ".join(told) or "nothing has happened"


def writer_text(c):
    w = c["writer"]
    head, tail, limit = (number(w[name]) for name in ("head", "tail", "limit"))
    return (f"head {head}, published {number(w['published'])}, tail {tail}, limit {limit}, in flight {head - tail}, "
            f"{plural(bin(number(w['members'])).count('1'), 'segment')} in use, "
            f"at segment {number(w['segment'])} offset {number(w['offset'])}")


def reader_text(c):
    r = c["reader"]
    head, tail = number(r["head"]), number(r["tail"])
    return (f"tail {tail}, head {head}, unread {head - tail}, "
            f"at segment {number(r['segment'])} offset {number(r['offset'])}")


def epoch_text(epoch):
    return f"{epoch} ({'asleep' if epoch & 1 else 'awake'})"


def waiting_text(area, rung):
    hot = area["hot"]
    return (f"for data {epoch_text(number(hot['recv_waiting']))}, "
            f"for space {epoch_text(number(hot['send_waiting']))}{rung}")


def own_waiting_text(c):
    return waiting_text(at(AREA, pointer(c["own"])), "")


def peer_waiting_text(c):
    address = pointer(c["peer"])
    if address == 0:
        return "not known yet"
    rung = f"; rung for data {number(c['writer']['rung_epoch'])}, for space {number(c['reader']['rung_epoch'])}"
    return waiting_text(at(AREA, address), rung)


def bell_text(c):
    b = c["bell_state"]
    told = [name for name in ("maybe_rung", "shut", "connected_left") if number(b[name])]
    return ", ".join([plural(number(b["sleepers"]), "sleeper"),
                      f"armed epolls: read {number(c['read_armed_epolls'])}, write {number(c['write_armed_epolls'])}",
                      plural(number(b["left"]), "ring") + " left", *told])


def stash_text(c):
    begin, end = number(c["bell_state"]["stash_begin"]), number(c["bell_state"]["stash_end"])
    return f"{end - begin} bytes at {begin}" if end != begin else "empty"


def options_text(c):
    options = c["options"]
    count = options.type.range()[1] + 1
    return f"{sum(number(options[i]['length']) != 0 for i in range(count))} stored"


def print_area(title, c, name, other, start):
    """`start`: in which segment the earliest unread byte of this area's stream lies."""
    address = pointer(c[name])
    print(f"{title} area" + (f" {address:#x}" if address else ": none"))
    if address:
        opposite = pointer(c[other])
        shunt_area.print_area(at(AREA, address), at(AREA, opposite) if opposite else None, start,
                              number(c["relayed"]) != 0)


def peer_position(c):
    """The peer's word for where it reads; its memory may say anything, and shunt_area looks at that."""
    address = pointer(c["peer"])
    return number(at(AREA, address)["tail"]["segment"]) if address else 0


def print_connection(c):
    put("endpoints", lambda: endpoints_text(c))
    put("carriage", lambda: carriage_of(c))
    put("state", lambda: state_text(c))
    put("locks", lambda: ", ".join(f"{name} {lock_text(c[field])}" for name, field in (
        ("tx", "tx"), ("rx", "rx"), ("bell", "bell"), ("state", "state_lock"), ("options", "options_lock"))))
    put("writer", lambda: writer_text(c))
    put("reader", lambda: reader_text(c))
    put("own waits", lambda: own_waiting_text(c))
    put("peer waits", lambda: peer_waiting_text(c))
    put("bell", lambda: bell_text(c))
    put("stash", lambda: stash_text(c))
    put("options", lambda: options_text(c))
    for title, name, other, start in (("own", "own", "peer", lambda: peer_position(c)),
                                      ("peer", "peer", "own", lambda: number(c["reader"]["segment"]))):
        try:
            print_area(title, c, name, other, start)
        except ERRORS as e:
            print(f"{title} area cannot be read: {e}")


def told_as_error(invoke):
    """What cannot be read at all ends the command as gdb's own commands end, without a traceback."""
    def guarded(self, argument, from_tty):
        try:
            invoke(self, argument, from_tty)
        except ERRORS as e:
            raise e if isinstance(e, gdb.GdbError) else gdb.GdbError(str(e)) from None
    return guarded


class Shunt(gdb.Command):
    """What libshunt.so knows of this program's sockets."""

    def __init__(self):
        super().__init__("shunt", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class ShuntSockets(gdb.Command):
    """One line for each descriptor that libshunt.so has in its table. Usage: shunt sockets"""

    def __init__(self):
        super().__init__("shunt sockets", gdb.COMMAND_DATA)

    @told_as_error
    def invoke(self, argument, from_tty):
        for fd, address in entries():
            put(f"fd {fd}", lambda address=address: socket_text(at(SOCKET, address)))


class ShuntConnection(gdb.Command):
    """Everything that libshunt.so knows of one connection. Usage: shunt connection FD, a number or an expression"""

    def __init__(self):
        super().__init__("shunt connection", gdb.COMMAND_DATA)

    @told_as_error
    def invoke(self, argument, from_tty):
        fd = int(gdb.parse_and_eval(argument or "-1"))
        socket = socket_of(fd)
        print(f"fd {fd}: Socket {int(socket.address):#x}")
        put("kind", lambda: f"{kind_of(socket)}, {family_text(number(socket['family']))}, "
            f"{plural(number(socket['refs']), 'reference')}, lock {lock_text(socket['lock'])}")
        if not has_connection(socket):
            put("socket", lambda: socket_text(socket))
            return
        connection = socket["connection"].dereference()
        print(f"connection {int(connection.address):#x}")
        print_connection(connection)


Shunt()
ShuntSockets()
ShuntConnection()
