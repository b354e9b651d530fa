"""Servers and clients that several tests use."""
import os

from . import run_id, settings

DIALER = os.path.join(os.path.dirname(__file__), "dialer.py")


def start_redis(stage, port, **options):
    server = stage.start("server", ["redis-server", "--port", port, "--bind", stage.host, "--save", "",
                                    "--appendonly", "no", "--protected-mode", "no",
                                    "--dir", run_id.directory()], **options)
    server.line_with("Ready to accept connections")
    return server


def start_dialer(stage, **options):
    return stage.start("client", ["/usr/bin/python3", "-u", DIALER], stdin="hold", name="dialer", **options)


def dial(dialer, stage, port, how=""):
    dialer.give(f"{stage.host} {port} {how}\n".encode())
    return dialer.line(30)


def start_mortal(stage, side, role, listen, rng, seed, port=None, journal=None, pause_us=None):
    """One end of a stream with a random way to wait; see tests/programs/mortal.cc."""
    piece_max = rng.choice([100, 5000, 100_000, 1 << 20])
    if pause_us is None:  # small pieces and long pauses together would take for ever
        pause_us = rng.choice([0, 0, 300, 2000]) if piece_max >= 100_000 else 0
    argv = [settings.program("mortal"), role, "--host", stage.host, "--seed", str(seed),
            "--wait", rng.choice(["block", "poll", "epoll"]),
            "--piece-max", str(piece_max), "--pause-us", str(pause_us)]
    argv += ["--listen"] if listen else ["--port", str(port)]
    if role == "write":
        argv += ["--journal", journal]
    return stage.start(side, argv, name=f"mortal-{role}")
