// One direction of a connection whose ends may be killed at any moment.
//
//   mortal write --connect PORT --journal FILE     writes for ever; FILE holds how many bytes the
//                                                  system has taken so far (8 bytes, native order)
//   mortal read --listen                           checks every byte; says how the stream ended
//
// Either end may listen (says "ready PORT") or connect; both say "connected". At the end of the
// connection one JSON line: {"bytes": N, "end": "eof" | "ECONNRESET" | "EPIPE", "intact": true}.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "common/options.h"
#include "common/program.h"
#include "common/stream.h"

namespace shunt::test {
namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  bool listen = false;
  std::string journal;
  std::string wait = "block";  // block, poll, epoll
  std::uint64_t seed = 1;
  std::size_t piece_max = 100'000;
  unsigned pause_us = 0;  // now and then, so that buffers fill (reader) or run dry (writer)
  unsigned limit_s = 60;
};

// Survives the death of the writer: the mapping is shared with the file.
std::atomic<std::uint64_t>* open_journal(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(std::uint64_t)) != 0) die(path);
  void* p = mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) die("mmap");
  close(fd);
  return static_cast<std::atomic<std::uint64_t>*>(p);
}

class Waiter {
 public:
  Waiter(int fd, const std::string& form, short events) : fd_(fd), form_(form), events_(events) {
    if (form == "block") return;
    set_nonblocking(fd);
    if (form != "epoll") return;
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{(events & POLLIN) != 0 ? EPOLLIN : EPOLLOUT, {}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  }
  void wait() const {
    pollfd p{fd_, events_, 0};
    epoll_event event;
    if (form_ == "poll" && poll(&p, 1, -1) < 0) die("poll");
    if (form_ == "epoll" && epoll_wait(epoll_, &event, 1, -1) < 0) die("epoll_wait");
  }

 private:
  int fd_;
  std::string form_;
  short events_;
  int epoll_ = -1;
};

void maybe_pause(const Settings& s, Random& random) {
  if (s.pause_us > 0 && random.below(8) == 0) usleep(static_cast<useconds_t>(s.pause_us));
}

void report(std::uint64_t bytes, int error, bool intact) {
  const char* end = error == 0 ? "eof" : strerrorname_np(error);
  say(nlohmann::json{{"bytes", bytes}, {"end", end}, {"intact", intact}}.dump());
}

int write_for_ever(int fd, const Settings& s) {
  std::atomic<std::uint64_t>* journal = open_journal(s.journal);
  const Waiter waiter(fd, s.wait, POLLOUT);
  Stream stream(s.seed);
  Random random(s.seed + 17);
  say("connected");
  std::uint64_t total = 0;
  for (;;) {
    maybe_pause(s, random);
    const std::size_t size = random.size(s.piece_max);
    const ssize_t n = send(fd, stream.peek(size), size, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      waiter.wait();
    } else if (n < 0) {
      report(total, errno, true);
      return 0;
    } else {
      stream.advance(static_cast<std::size_t>(n));
      total += static_cast<std::uint64_t>(n);
      journal->store(total, std::memory_order_relaxed);
    }
  }
}

int read_to_the_end(int fd, const Settings& s) {
  const Waiter waiter(fd, s.wait, POLLIN);
  Stream stream(s.seed);
  Random random(s.seed + 18);
  std::vector<std::uint8_t> block(s.piece_max);
  say("connected");
  std::uint64_t total = 0;
  bool intact = true;
  for (;;) {
    maybe_pause(s, random);
    const std::size_t size = random.size(s.piece_max);
    const ssize_t n = recv(fd, block.data(), size, 0);
    if (n < 0 && errno == EAGAIN) {
      waiter.wait();
      continue;
    }
    if (n <= 0) {
      report(total, n == 0 ? 0 : errno, intact);
      return intact ? 0 : 1;
    }
    const auto got = static_cast<std::size_t>(n);
    intact = intact && std::memcmp(stream.peek(got), block.data(), got) == 0;
    stream.advance(got);
    total += got;
  }
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"A stream whose ends may be killed"};
  shunt::test::Options write = app.command("write", "send for ever");
  shunt::test::Options read = app.command("read", "receive and check");
  for (auto* command : {&write, &read}) {
    command->value("--host", s.host, "numeric address");
    command->value("--port", s.port, "port");
    command->flag("--listen", s.listen, "wait for the connection");
    command->one_of("--wait", s.wait, "how to wait", {"block", "poll", "epoll"});
    command->value("--seed", s.seed, "of the bytes");
    command->between(1, shunt::test::Stream::kPieceMax, "--piece-max", s.piece_max, "largest call");
    command->value("--pause-us", s.pause_us, "sleep now and then");
    command->value("--limit", s.limit_s, "seconds after which to give up");
  }
  write.value("--journal", s.journal, "file for the count of bytes", true);
  app.parse(argc, argv);
  shunt::test::limit_time(s.limit_s);
  const int fd = s.listen ? shunt::test::accept_one(shunt::test::listen_and_say(s.host, s.port))
                          : shunt::test::connect_to(s.host, s.port);
  return write.given() ? shunt::test::write_for_ever(fd, s) : shunt::test::read_to_the_end(fd, s);
}
