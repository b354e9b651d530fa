"""iperf3 in both directions, with parallel streams and both ways at once; byte counts of both ends."""
import json

from harness import case, status

PORT = "7201"
SECONDS = 1
FORMS = {
    "forward": [],
    "reverse": ["-R"],
    "parallel": ["-P", "4"],
    "parallel reverse": ["-P", "4", "-R"],
    "both ways": ["--bidir"],
    "fixed size": ["-n", "256M"],
}


def run_form(stage, server, name, options):
    duration = [] if "-n" in options else ["-t", str(SECONDS)]
    with stage.start("client", ["iperf3", "-c", stage.host, "-p", PORT, "--json", *duration,
                                *options]) as client:
        report = json.loads(client.rest())
        client.succeed()
    assert "error" not in report, report["error"]
    end = report["end"]
    pairs = [("sum_sent", "sum_received")]
    if "sum_sent_bidir_reverse" in end:
        pairs.append(("sum_sent_bidir_reverse", "sum_received_bidir_reverse"))
    moved = 0
    for sent, received in pairs:
        # Each count is the one of the end that did it: iperf3 exchanges them when time is up. What
        # is on its way at that moment counts at the sender only.
        assert end[sent]["bytes"] >= end[received]["bytes"] > 1 << 20, (name, end[sent], end[received])
        assert end[sent]["bytes"] - end[received]["bytes"] < 64 << 20, (name, end[sent], end[received])
        if "-n" in options:
            # iperf3 looks at the amount between writes, but not after the last of ten in a row: a
            # write that was cut short shifts the ten, and one more block of 128 KiB is sent.
            excess = end[sent]["bytes"] - (256 << 20)
            assert 0 <= excess <= 128 << 10, (name, end[sent])
        moved += end[received]["bytes"]
    case.say(f"  {stage.mode}: {name}: {moved * 8 / 1e9 / max(SECONDS, 1):.1f} Gbit moved")
    return moved


def exchange(stage):
    server = stage.start("server", ["iperf3", "-s", "-p", PORT, "-B", stage.host, "--forceflush"])
    moved = 0
    for name, options in FORMS.items():
        server.line_with("Server listening")  # anew before each test: it closes its listener in between
        moved += run_form(stage, server, name, options)
    if stage.shunted:
        memory = status.check_carried(stage, server, connections=2 * len(FORMS))
        counted = memory["bytes_sent"] + memory["bytes_received"]
        assert counted >= moved, (memory, moved)
    server.kill(15)
    server.wait()
    return sorted(FORMS)


case.main(exchange, description=__doc__)
