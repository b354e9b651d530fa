"""Reading the debuggee for shunt.py: values without their C++ wrappers, and a line for each thing that may fail.

Atomics, conn::Field and plain integers are all read as what they are in memory, so no pretty-printer of gdb or of
libstdc++ is needed. Any function here may raise one of ERRORS; put() is where that ends.
"""

import ipaddress
import struct

import gdb

ERRORS = (gdb.error, RuntimeError, ValueError, OverflowError, KeyError, TypeError)

SOCKET = "shunt::sockets::Socket"
AREA = "shunt::layout::Area"
TABLE = "shunt::sockets::(anonymous namespace)::table"
LIMIT = "shunt::sockets::(anonymous namespace)::limit"

WAITERS = 1 << 31  # Lock::kWaiters
POINTER_BYTES = 8
TABLE_ENTRIES = 1 << 20  # kTableEntries
FAMILIES = {2: "IPv4", 10: "IPv6"}


def put(title, produce):
    """Prints a line, or why there is none."""
    try:
        text = produce()
    except ERRORS as e:
        text = f"cannot be read: {e}"
    print(f"  {title:<11}{text}")


def memory(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def number(value):
    """An integer, a bool or an enumeration, bare or in a wrapper of its own size; taken as unsigned."""
    return int.from_bytes(memory(int(value.address), value.type.sizeof), "little")


pointer = number  # of a pointer, or of an atomic one


def at(type_name, address):
    return gdb.Value(address).cast(gdb.lookup_type(type_name).pointer()).dereference()


def enumerator(type_name, value):
    names = [field.name for field in gdb.lookup_type(type_name).fields() if field.enumval == value]
    return names[0].rpartition("::")[2] if names else f"{value} (no {type_name})"


def variable(name):
    """A variable of sockets/process/table.cc; other files have some of the same name."""
    symbols = [s for s in gdb.lookup_static_symbols(name) if s.symtab.filename.endswith("/process/table.cc")]
    if not symbols:
        raise gdb.GdbError("libshunt.so is not in this program, or has no debug information")
    return symbols[0].value()


def entries():
    """(descriptor, address of its Socket), for each entry of sockets/process/table.cc."""
    table, limit = pointer(variable(TABLE)), number(variable(LIMIT))
    if table == 0 or limit == 0:
        return []
    if limit > TABLE_ENTRIES:
        raise gdb.GdbError(f"the table's limit is damaged: {limit}")
    sockets = struct.unpack(f"<{limit}Q", memory(table, limit * POINTER_BYTES))
    return [(fd, address) for fd, address in enumerate(sockets) if address != 0]


def family_text(family):
    return FAMILIES.get(family, f"family {family}")


def endpoint_text(endpoint):
    family, port = number(endpoint["family"]), number(endpoint["port"])
    address = memory(int(endpoint["address"].address), 16)
    if family not in FAMILIES:
        return f"{family_text(family)}, port {port}"
    if FAMILIES[family] == "IPv4":
        return f"{ipaddress.IPv4Address(address[:4])}:{port}"
    return f"[{ipaddress.IPv6Address(address)}]:{port}"


def thread_text(thread_id):
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == thread_id:
            return f"thread {thread.num} (LWP {thread_id})"
    return f"LWP {thread_id} of another process"


def lock_text(lock):
    word = number(lock["word_"])
    text = f"held by {thread_text(word & ~WAITERS)}" if word & ~WAITERS else "free"
    text += " with waiters" if word & WAITERS else ""
    return text + (" (recovered)" if number(lock["recovered_"]) else "")


def plural(count, noun):
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
