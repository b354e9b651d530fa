"""Where experiments run: programs in pairs, the machine's limits, notes for the table, and what is to be removed."""
import contextlib
import dataclasses
import os
import resource
import shutil
import tempfile

from . import memory
from .carriers import CARRIERS, check_carried
from .errors import Failed
from .programs import LIMIT_S, Program


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is measured; QUICK shows that it works, FULL gives figures."""
    seconds: float          # of a rate
    closed: int             # connections that are closed at once
    traced: tuple           # connections under strace: the smaller number is subtracted
    idle: int               # connections that memory is measured with
    settle_s: float         # before memory is read
    drained: int            # connections that carry a lot and then rest
    drained_bytes: int
    drained_idle_s: float


FULL = Scale(0.6, 10_000, (100, 500), 1000, 1.0, 300, 4 << 20, 5.0)
QUICK = Scale(0.1, 500, (20, 60), 100, 0.2, 30, 1 << 20, 0.5)


class Pair:
    """A server and its client."""

    def __init__(self, server, client):
        self.server, self.client = server, client
        self.both = (server, client)


class Stage:
    """A context: at its end nothing of it is left, whatever happened."""

    def __init__(self, build, scale):
        self.build, self.scale = os.path.abspath(build), scale
        self.notes = {}  # text -> names of rows
        self._needs = None
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.scratch = tempfile.mkdtemp(prefix="shunt-bench-")
            stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            self.meter = memory.choose_meter()
            stack.callback(self.meter.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def note(self, text, *rows):
        names = self.notes.setdefault(text, [])
        names += [row for row in rows if row not in names]

    def program(self, name):
        return os.path.join(self.build, "bin", "bench", f"bench_{name}")

    @contextlib.contextmanager
    def started(self, carrier, name, argv, **how):
        argv = [self.program(name), *map(str, argv)]
        tracer = how.pop("tracer", [])
        program = Program(f"the {name}", [*tracer, *carrier.command(self.build, argv)], **how)
        try:
            program.start()
            yield program
        finally:
            program.end()

    @contextlib.contextmanager
    def pair(self, carrier, server_argv, client_argv, server=None, client=None):
        """Both started, the client "up". At the end, if all went well, what carried the bytes is proved."""
        server_argv = ["--listen", carrier.family, *server_argv]
        with self.started(carrier, "server", server_argv, **(server or {})) as serving:
            address = serving.line("ready", LIMIT_S)[0]
            with self.started(carrier, "client", ["--to", address, *client_argv], **(client or {})) as asking:
                try:
                    asking.line("up", LIMIT_S)
                    yield Pair(serving, asking)
                    if carrier.shunted:
                        check_carried(self.build, (serving, asking))
                except Failed as e:
                    if cause := serving.ended_early():
                        raise Failed(f"{cause}; and {e}") from None
                    raise

    def holding(self, carrier, *client_argv, server_argv=(), **how):
        """A pair for connections that stay: an epoll server, and a client that takes commands."""
        return self.pair(carrier, ["--form", "epoll", *server_argv], ["hold", *client_argv], **how)

    def affordable(self, wanted, *rows):
        """How many connections every carrier can hold, at most `wanted`; the table says if they are fewer."""
        if self._needs is None:
            self._needs = self._probe()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with open("/proc/sys/vm/max_map_count", encoding="ascii") as f:
            maps = int(f.read())
        descriptors, mappings = self._needs
        count = min(wanted, int((limit - 256) / max(descriptors, 1)))
        if mappings > 0:
            count = min(count, int((maps - 1024) / mappings))
        count = max(count, 1)
        if count < wanted:
            self.note(f"{count} connections in the place of {wanted}: RLIMIT_NOFILE is {limit}, vm.max_map_count "
                      f"{maps}, and one end needs up to {descriptors:.1f} descriptors and {mappings:.1f} mappings",
                      *rows)
        else:
            self.note(f"{count} connections", *rows)
        return count

    def _probe(self):
        """(descriptors, mappings) that one end of a connection needs, of the carrier that needs most."""
        most = [0, 0]
        for carrier in CARRIERS:
            try:
                most = [max(pair) for pair in zip(most, *self._needs_of(carrier, 32))]
            except Failed:  # what is wrong with it, its rows will tell
                pass
        return most

    def _needs_of(self, carrier, probes):
        with self.holding(carrier) as pair:
            before = [memory.handles(p.pid) for p in pair.both]
            pair.client.give(f"open {probes}")
            pair.client.line("open")
            return [[(n - o) / probes for n, o in zip(memory.handles(program.pid), old)]
                    for program, old in zip(pair.both, before)]
