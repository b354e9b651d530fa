// Finite exchanges, one connection each, again and again: for connections that may be reset at any time.
//
//   exchanger serve                       says "ready PORT"; echoes every connection until stdin ends
//   exchanger connect --port P --seconds 8  connects, sends random bytes, compares the echo, closes; and again
//
// Whatever a connection does, neither side waits for it longer than --patience-ms at a time. Both print one JSON line
// in the end: how many exchanges were `ok`, ended with which `errors`, brought `wrong` bytes or too few of them, or
// were `silent` for longer than patience allows; the `longest` in seconds; whether the `last` was ok.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/exchange.h"
#include "common/options.h"
#include "common/program.h"

namespace shunt::test {
namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  std::uint64_t seed = 1;
  double seconds = 8;
  unsigned patience_ms = 10'000;
  std::size_t bytes_max = 1 << 20;
  unsigned pause_us = 10'000;
  unsigned limit_s = 300;
};

class Report {
 public:
  void add(Outcome o, double seconds) {
    const std::lock_guard lock(mutex_);
    last_ok_ = o.end == End::kOk;
    if (o.end == End::kOk) ++ok_;
    if (o.end == End::kWrong) ++wrong_;
    if (o.end == End::kSilent) ++silent_;
    if (o.end == End::kError) ++errors_[strerrorname_np(o.error)];
    longest_ = std::max(longest_, seconds);
  }
  void print() {
    const std::lock_guard lock(mutex_);
    say(nlohmann::json{{"ok", ok_},
                       {"wrong", wrong_},
                       {"silent", silent_},
                       {"errors", errors_},
                       {"longest", longest_},
                       {"last", last_ok_}}
            .dump());
  }

 private:
  std::mutex mutex_;
  std::uint64_t ok_ = 0;
  std::uint64_t wrong_ = 0;
  std::uint64_t silent_ = 0;
  std::map<std::string, std::uint64_t> errors_;
  double longest_ = 0;
  bool last_ok_ = false;
};

// Blocking calls then fail with EAGAIN when nothing happens for so long.
void limit_waiting(int fd, const Settings& s) {
  const timeval time{s.patience_ms / 1000, s.patience_ms % 1000 * 1000};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0) {
    die("SO_RCVTIMEO");
  }
}

Outcome echo(int fd) {
  std::vector<std::uint8_t> block(100'000);
  for (;;) {
    const ssize_t n = recv(fd, block.data(), block.size(), 0);
    if (n == 0) return {End::kOk};
    if (n < 0 || !send_all(fd, block.data(), static_cast<std::size_t>(n))) return failed();
  }
}

// Connections are echoed by threads of their own; the report waits for all of them.
class Server {
 public:
  explicit Server(const Settings& s) : settings_(s), listener_(listen_and_say(s.host, s.port)) {
    set_nonblocking(listener_);
  }
  void run() {
    pollfd p[2] = {{listener_, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    while (p[1].revents == 0) {
      if (poll(p, 2, -1) < 0) die("poll");
      const int fd = p[0].revents != 0 ? accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC) : -1;
      if (fd >= 0) start(fd);  // others have gone again: their end is the client's to report
    }
    close(listener_);
    std::unique_lock lock(mutex_);
    all_over_.wait(lock, [this] { return open_ == 0; });
    report_.print();
  }

 private:
  void start(int fd) {
    {
      const std::lock_guard lock(mutex_);
      ++open_;
    }
    std::thread([this, fd] {
      const double begin = now_seconds();
      limit_waiting(fd, settings_);
      const Outcome outcome = echo(fd);
      close(fd);
      report_.add(outcome, now_seconds() - begin);
      const std::lock_guard lock(mutex_);
      if (--open_ == 0) all_over_.notify_one();
    }).detach();
  }
  const Settings& settings_;
  int listener_;
  Report report_;
  std::mutex mutex_;
  std::condition_variable all_over_;
  int open_ = 0;
};

Outcome one_exchange(const Settings& s, std::uint64_t number) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  limit_waiting(fd, s);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(s.port);
  if (inet_pton(AF_INET, s.host.c_str(), &to.sin_addr) != 1) die_plain(s.host + " is no address");
  Outcome outcome =
      connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 ? failed() : Outcome{End::kOk};
  if (outcome.end == End::kOk) {
    Exchange exchange(fd, s.seed + (number << 20), s.bytes_max, s.patience_ms);
    outcome = number % 2 == 0 ? exchange.blocking() : exchange.polling();
  }
  close(fd);
  return outcome;
}

void exchange_for_a_while(const Settings& s) {
  Report report;
  const double end = now_seconds() + s.seconds;
  for (std::uint64_t number = 0; now_seconds() < end; ++number) {
    const double begin = now_seconds();
    const Outcome outcome = one_exchange(s, number);
    report.add(outcome, now_seconds() - begin);
    // Where nobody can be reached the next attempt fails at once, and so would thousands.
    if (outcome.end != End::kOk) usleep(s.pause_us);
  }
  report.print();
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"Finite exchanges over connections that may be reset"};
  shunt::test::Options serve = app.command("serve", "echo");
  shunt::test::Options connect = app.command("connect", "exchange again and again");
  for (auto* command : {&serve, &connect}) {
    command->value("--host", s.host, "numeric address");
    command->value("--port", s.port, "0: any (serve)");
    command->value("--patience-ms", s.patience_ms, "how long to wait for one connection");
    command->value("--limit", s.limit_s, "seconds after which to give up");
  }
  connect.value("--seconds", s.seconds, "how long to begin exchanges");
  connect.value("--seed", s.seed, "of bytes and sizes");
  connect.value("--bytes-max", s.bytes_max, "of one exchange");
  app.parse(argc, argv);
  shunt::test::limit_time(s.limit_s);
  if (serve.given()) {
    shunt::test::Server(s).run();
  } else {
    shunt::test::exchange_for_a_while(s);
  }
}
