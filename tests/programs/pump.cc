// Sends BYTES random bytes and receives BYTES random bytes at once over one connection, in pieces of
// random sizes (1 B to 1 MiB), and prints a hash of either direction.
//
//   pump serve --form poll            says "ready PORT", then one JSON line with the result
//   pump connect --port PORT --form epoll-et
//
// The hashes of one direction must agree: "sent" here with "received" there. With --hold the process
// stays until its stdin ends. Several connections one after the other: --connections on the server.
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/options.h"
#include "common/program.h"
#include "common/stream.h"

namespace shunt::test {
namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  std::string form = "blocking";
  std::uint64_t bytes = 1 << 30;
  std::uint64_t seed = 1;
  std::size_t piece_max = Stream::kPieceMax;
  unsigned limit_s = 300;
  int connections = 1;
  bool hold = false;
  bool server = false;
};

enum class Step { kMoved, kWouldBlock, kDone, kBroken };

// The sending half; `step` makes one call.
class Sender {
 public:
  Sender(int fd, const Settings& s)
      : fd_(fd), left_(s.bytes), piece_max_(s.piece_max), stream_(s.seed), sizes_(s.seed * 3 + 1) {}

  Step step() {
    if (left_ == 0) return Step::kDone;
    const std::size_t size = std::min<std::uint64_t>(sizes_.size(piece_max_), left_);
    const std::uint8_t* data = stream_.peek(size);
    const ssize_t n =
        (sizes_.next() & 1) != 0 ? send(fd_, data, size, MSG_NOSIGNAL) : write(fd_, data, size);
    if (n < 0 && errno == EAGAIN) return Step::kWouldBlock;
    if (n < 0 && errno == EPIPE) return Step::kBroken;
    if (n < 0) die("send");
    hash.update(data, static_cast<std::size_t>(n));
    stream_.advance(static_cast<std::size_t>(n));
    left_ -= static_cast<std::uint64_t>(n);
    if (left_ > 0) return Step::kMoved;
    if (shutdown(fd_, SHUT_WR) != 0) die("shutdown");
    return Step::kDone;
  }

  StreamHash hash;

 private:
  int fd_;
  std::uint64_t left_;
  std::size_t piece_max_;
  Stream stream_;
  Random sizes_;
};

class Receiver {
 public:
  Receiver(int fd, const Settings& s)
      : fd_(fd), piece_max_(s.piece_max), sizes_(s.seed * 5 + 2), block_(s.piece_max) {}

  Step step() {
    const std::size_t size = sizes_.size(piece_max_);
    const ssize_t n = (sizes_.next() & 1) != 0 ? recv(fd_, block_.data(), size, 0)
                                               : read(fd_, block_.data(), size);
    if (n < 0 && errno == EAGAIN) return Step::kWouldBlock;
    if (n < 0) die("recv");
    if (n == 0) return Step::kDone;
    hash.update(block_.data(), static_cast<std::size_t>(n));
    return Step::kMoved;
  }

  StreamHash hash;

 private:
  int fd_;
  std::size_t piece_max_;
  Random sizes_;
  std::vector<std::uint8_t> block_;
};

struct Ready {
  bool in = false;
  bool out = false;
};

// One of the ways to wait for a descriptor.
class Waiter {
 public:
  Waiter(int fd, const std::string& form) : fd_(fd), form_(form) {
    if (!form.starts_with("epoll")) return;
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    edge_ = form == "epoll-et" ? EPOLLET : 0U;
    control(EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
  }
  ~Waiter() {
    if (epoll_ >= 0) close(epoll_);
  }
  bool edge_triggered() const { return edge_ != 0; }

  Ready wait(bool in, bool out) {
    if (epoll_ >= 0) return wait_epoll(in, out);
    return form_ == "select" ? wait_select(in, out) : wait_poll(in, out);
  }

 private:
  void control(int operation, std::uint32_t events) {
    epoll_event event{events | edge_, {}};
    if (epoll_ctl(epoll_, operation, fd_, &event) != 0) die("epoll_ctl");
    registered_ = events;
  }
  Ready wait_epoll(bool in, bool out) {
    const std::uint32_t wanted = (in ? EPOLLIN : 0U) | (out ? EPOLLOUT : 0U);
    if (!edge_triggered() && wanted != registered_) control(EPOLL_CTL_MOD, wanted);
    epoll_event event{};
    if (epoll_wait(epoll_, &event, 1, -1) < 0) die("epoll_wait");
    return {(event.events & ~EPOLLOUT) != 0, (event.events & ~EPOLLIN) != 0};
  }
  Ready wait_poll(bool in, bool out) const {
    pollfd p{fd_, static_cast<short>((in ? POLLIN : 0) | (out ? POLLOUT : 0)), 0};
    if (poll(&p, 1, -1) < 0) die("poll");
    return {(p.revents & ~POLLOUT) != 0, (p.revents & ~POLLIN) != 0};
  }
  Ready wait_select(bool in, bool out) const {
    fd_set read_set;
    fd_set write_set;
    FD_ZERO(&read_set);
    FD_ZERO(&write_set);
    if (in) FD_SET(fd_, &read_set);
    if (out) FD_SET(fd_, &write_set);
    if (select(fd_ + 1, &read_set, &write_set, nullptr, nullptr) < 0) die("select");
    return {FD_ISSET(fd_, &read_set) != 0, FD_ISSET(fd_, &write_set) != 0};
  }

  int fd_;
  std::string form_;
  int epoll_ = -1;
  std::uint32_t edge_ = 0;
  std::uint32_t registered_ = 0;
};

void run_blocking(Sender& sender, Receiver& receiver) {
  Step last = Step::kMoved;
  std::thread sending([&] {
    while (last != Step::kDone && last != Step::kBroken) last = sender.step();
  });
  while (receiver.step() != Step::kDone) {
  }
  sending.join();
  // Of a reset one of the threads is told why; the receiver has said it by now if it was that one.
  if (last == Step::kBroken) die_plain("send: Broken pipe");
}

void run_events(int fd, const std::string& form, Sender& sender, Receiver& receiver) {
  set_nonblocking(fd);
  Waiter waiter(fd, form);
  bool sending = true;
  bool receiving = true;
  Ready ready;
  while (sending || receiving) {
    // Level-triggered ways ask before every call; the edge-triggered one only after EAGAIN.
    const bool runnable = (ready.in && receiving) || (ready.out && sending);
    if (!waiter.edge_triggered()) {
      ready = waiter.wait(receiving, sending);
    } else if (!runnable) {
      const Ready more = waiter.wait(receiving, sending);
      ready = {ready.in || more.in, ready.out || more.out};
    }
    if (ready.out && sending) {
      const Step step = sender.step();
      if (step == Step::kBroken) die_plain("send: Broken pipe");
      if (step == Step::kDone) sending = false;
      if (step == Step::kWouldBlock) ready.out = false;
    }
    if (ready.in && receiving) {
      const Step step = receiver.step();
      if (step == Step::kDone) receiving = false;
      if (step == Step::kWouldBlock) ready.in = false;
    }
  }
}

void exchange(int fd, const Settings& s) {
  Sender sender(fd, s);
  Receiver receiver(fd, s);
  const double start = now_seconds();
  if (s.form == "blocking") {
    run_blocking(sender, receiver);
  } else {
    run_events(fd, s.form, sender, receiver);
  }
  const double seconds = now_seconds() - start;
  const nlohmann::json result{
      {"sent", sender.hash.bytes()},
      {"sent_hash", hex(sender.hash.value())},
      {"received", receiver.hash.bytes()},
      {"received_hash", hex(receiver.hash.value())},
      {"seconds", seconds},
      {"mib_per_s_each_way", static_cast<double>(s.bytes) / seconds / (1 << 20)}};
  say(result.dump());
  close(fd);
}

int run(Settings s) {
  limit_time(s.limit_s);
  if (s.server) {
    s.seed = s.seed * 1000 + 7;  // the two directions carry different bytes
    const int listener = listen_and_say(s.host, s.port);
    for (int i = 0; i < s.connections; ++i) exchange(accept_one(listener), s);
    close(listener);
  } else {
    exchange(connect_to(s.host, s.port), s);
  }
  if (s.hold) hold_until_stdin_ends();
  return 0;
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"Random bytes both ways at once over one connection"};
  shunt::test::Options serve = app.command("serve", "wait for the connection");
  shunt::test::Options connect = app.command("connect", "open the connection");
  for (auto* command : {&serve, &connect}) {
    command->value("--host", s.host, "numeric address");
    command->value("--port", s.port, "0: any (serve)");
    command->one_of("--form", s.form, "how to wait",
                    {"blocking", "poll", "select", "epoll-lt", "epoll-et"});
    command->value("--bytes", s.bytes, "each way");
    command->between(1, shunt::test::Stream::kPieceMax, "--piece-max", s.piece_max, "largest call");
    command->value("--seed", s.seed, "of bytes and sizes");
    command->value("--limit", s.limit_s, "seconds after which to give up");
    command->flag("--hold", s.hold, "stay until stdin ends");
  }
  serve.value("--connections", s.connections, "one after the other");
  app.parse(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  s.server = serve.given();
  return shunt::test::run(s);
}
