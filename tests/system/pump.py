"""Random bytes both ways at once through one connection, in one of the ways to wait."""
import json

from harness import case, settings, status

p = case.parser(__doc__)
p.add_argument("--form", default="blocking",
               choices=["blocking", "poll", "select", "epoll-lt", "epoll-et", "mixed"])
p.add_argument("--bytes", type=int, default=1 << 30)
OPTIONS = p.parse_args()
SEED = OPTIONS.seed or 5

# "mixed": the two ends wait in different ways.
FORMS = ("epoll-et", "blocking") if OPTIONS.form == "mixed" else (OPTIONS.form, OPTIONS.form)


def exchange(stage):
    common = ["--host", stage.host, "--bytes", str(OPTIONS.bytes), "--seed", str(SEED), "--hold",
              "--limit", str(OPTIONS.limit)]
    server = stage.start("server", [settings.program("pump"), "serve", "--form", FORMS[0], *common],
                         stdin="hold", name="pump-server")
    port = server.line().split()[1]
    client = stage.start("client", [settings.program("pump"), "connect", "--form", FORMS[1], "--port", port,
                                    *common], stdin="hold", name="pump-client")
    at_client = json.loads(client.line(OPTIONS.limit))
    at_server = json.loads(server.line(OPTIONS.limit))
    case.say(f"  {stage.mode}: {at_client['mib_per_s_each_way']:.0f} MiB/s each way")
    for sender, receiver in ((at_client, at_server), (at_server, at_client)):
        assert sender["sent"] == receiver["received"] == OPTIONS.bytes, (sender, receiver)
        assert sender["sent_hash"] == receiver["received_hash"], (sender, receiver)
    for process in (client, server):
        status.check_carried(stage, process, sent=OPTIONS.bytes, received=OPTIONS.bytes)
        process.release()
        process.succeed()
    return at_client["sent_hash"], at_server["sent_hash"]


case.main(exchange, OPTIONS)
