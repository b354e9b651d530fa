// Round trips of small messages over one connection with blocking calls; prints median and p99 in
// nanoseconds. A measure for people, and a smoke test.
//
//   pingpong                                 client and forked server over 127.0.0.1
//   pingpong serve --host 10.77.0.1          the server alone; says "ready PORT"
//   pingpong connect --host 10.77.0.1 --port PORT
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/options.h"
#include "common/program.h"

namespace shunt::test {
namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  std::size_t bytes = 64;
  int rounds = 50'000;
  bool hold = false;
  bool busy = false;  // look again and again instead of waiting in recv()
  int pause_ms = 0;   // before each round: both sides fall asleep
};

void set_nodelay(int fd) {
  const int one = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) die("TCP_NODELAY");
}

// False at end of stream.
bool receive_all(int fd, char* data, std::size_t size, bool busy) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = recv(fd, data + done, size - done, busy ? MSG_DONTWAIT : 0);
    if (n < 0 && busy && errno == EAGAIN) continue;
    if (n < 0) die("recv");
    if (n == 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

void send_all(int fd, const char* data, std::size_t size) {
  if (send(fd, data, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) die("send");
}

void answer(int listener, std::size_t bytes, bool busy) {
  const int fd = accept_one(listener);
  set_nodelay(fd);
  std::vector<char> data(bytes);
  while (receive_all(fd, data.data(), bytes, busy)) send_all(fd, data.data(), bytes);
  close(fd);
}

void ask(const Settings& s) {
  const int fd = connect_to(s.host, s.port);
  set_nodelay(fd);
  std::vector<char> data(s.bytes, 'p');
  std::vector<long> times;
  times.reserve(static_cast<std::size_t>(s.rounds));
  const int warm_up = s.rounds / 10;
  for (int i = -warm_up; i < s.rounds; ++i) {
    if (s.pause_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(s.pause_ms));
    const auto start = std::chrono::steady_clock::now();
    send_all(fd, data.data(), s.bytes);
    if (!receive_all(fd, data.data(), s.bytes, s.busy)) die_plain("the server went away");
    const auto took = std::chrono::steady_clock::now() - start;
    if (i >= 0) times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
  }
  close(fd);
  std::sort(times.begin(), times.end());
  const nlohmann::json result{{"bytes", s.bytes},
                              {"rounds", s.rounds},
                              {"median_ns", times[times.size() / 2]},
                              {"p99_ns", times[times.size() * 99 / 100]},
                              {"min_ns", times.front()}};
  say(result.dump());
}

int both(Settings s) {
  int channel[2];
  if (pipe(channel) != 0) die("pipe");
  const pid_t server = fork();
  if (server < 0) die("fork");
  if (server == 0) {
    dup2(channel[1], STDOUT_FILENO);
    answer(listen_and_say(s.host, 0), s.bytes, s.busy);
    _exit(0);
  }
  close(channel[1]);
  char line[32] = {};
  if (read(channel[0], line, sizeof line - 1) <= 6) die_plain("no server");
  s.port = static_cast<std::uint16_t>(std::atoi(line + 6));
  ask(s);
  int status = 0;
  waitpid(server, &status, 0);
  return status == 0 ? 0 : 1;
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"Round trips of small messages"};
  shunt::test::Options serve = app.command("serve", "answer one client");
  shunt::test::Options connect = app.command("connect", "measure");
  app.or_none();
  for (auto* command : {&app, &serve, &connect}) {
    command->value("--host", s.host, "numeric address");
    command->value("--port", s.port, "port");
    command->between(1, 1 << 16, "--bytes", s.bytes, "message size");
    command->between(100, 100'000'000, "--rounds", s.rounds, "round trips");
    command->flag("--hold", s.hold, "stay until stdin ends");
    command->flag("--busy", s.busy, "look for answers again and again instead of sleeping");
    command->between(0, 1000, "--pause-ms", s.pause_ms,
                     "before each round, so that both sides fall asleep");
  }
  app.parse(argc, argv);
  shunt::test::limit_time(300);
  int status = 0;
  if (serve.given()) {
    shunt::test::answer(shunt::test::listen_and_say(s.host, s.port), s.bytes, s.busy);
  } else if (connect.given()) {
    shunt::test::ask(s);
  } else {
    status = shunt::test::both(s);
  }
  if (s.hold) shunt::test::hold_until_stdin_ends();
  return status;
}
