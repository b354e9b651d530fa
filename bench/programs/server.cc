// The bench's server. It answers a byte with that byte, and a bulk message with bulk bytes.
//
//   bench_server --listen tcp|unix --form serial|threads|epoll
//                [--connections N]  serial: end after so many; epoll: say when so many are closed
//                [--bulk-in N] [--bulk-out N]  epoll: bytes of a bulk message and of its answer
//
// Says "ready ADDRESS" when it listens. The runner ends it.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common.h"

namespace bench {
namespace {

struct Settings {
  std::string listen = "tcp";
  std::string form = "serial";
  long connections = 0;
  std::size_t bulk_in = 1;
  std::size_t bulk_out = 0;
};

int accept_one(int listener, int flags) {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | flags);
    if (fd >= 0) return fd;
    if (errno != EINTR && errno != ECONNABORTED) die("accept");
  }
}

// One connection with blocking calls, to its end. The client closes first.
void serve_one(int fd) {
  char byte;
  while (receive_all(fd, &byte, 1)) send_all(fd, &byte, 1);
  close(fd);
}

void serve_serially(int listener, long connections) {
  for (long served = 0; connections == 0 || served < connections; ++served)
    serve_one(accept_one(listener, 0));
}

void* connection_thread(void* argument) {
  serve_one(static_cast<int>(reinterpret_cast<std::intptr_t>(argument)));
  return nullptr;
}

// A thread for each connection, as simple servers have it.
[[noreturn]] void serve_with_threads(int listener) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  for (;;) {
    const std::intptr_t fd = accept_one(listener, 0);
    pthread_t thread;
    errno = pthread_create(&thread, &attributes, connection_thread, reinterpret_cast<void*>(fd));
    if (errno != 0) die("pthread_create");
  }
}

class EpollServer {
 public:
  EpollServer(int listener, const Settings& settings)
      : settings_(settings), listener_(listener), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) die("epoll_create1");
    watch(listener_, EPOLLIN, EPOLL_CTL_ADD);
  }

  [[noreturn]] void run() {
    epoll_event events[128];
    for (;;) {
      const int n = epoll_wait(epoll_, events, 128, -1);
      if (n < 0 && errno != EINTR) die("epoll_wait");
      for (int i = 0; i < n; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_) {
          accept_all();
        } else if (events[i].events & EPOLLOUT) {
          answer(fd);
        } else {
          receive(fd);
        }
      }
    }
  }

 private:
  struct State {
    std::size_t to_receive = 0;  // of the bulk message
    std::size_t to_send = 0;     // of its answer
    bool waits_for_space = false;
  };

  void watch(int fd, std::uint32_t what, int operation) {
    epoll_event event{what, {}};
    event.data.fd = fd;
    if (epoll_ctl(epoll_, operation, fd, &event) != 0) die("epoll_ctl");
  }

  void accept_all() {
    if (fcntl(listener_, F_SETFL, O_RDWR | O_NONBLOCK) != 0) die("O_NONBLOCK");
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0 && errno == EAGAIN) return;
      if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
      if (fd < 0) die("accept");
      if (states_.size() <= static_cast<std::size_t>(fd)) states_.resize(fd + 1024);
      states_[fd] = {};
      watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
  }

  void receive(int fd) {
    State& state = states_[fd];
    const std::size_t want = state.to_receive > 0 ? std::min(state.to_receive, kPiece) : 1;
    const ssize_t n = recv(fd, piece_.data(), want, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0 && errno != ECONNRESET) die("recv");
    if (n <= 0) return end(fd);
    if (state.to_receive > 0) {
      state.to_receive -= static_cast<std::size_t>(n);
    } else if (piece_[0] == kBulk) {
      state.to_receive = settings_.bulk_in - 1;
    } else {
      send_all(fd, piece_.data(), 1);  // a byte always fits: there is one at a time
      return;
    }
    if (state.to_receive == 0) {
      state.to_send = settings_.bulk_out;
      answer(fd);
    }
  }

  void answer(int fd) {
    State& state = states_[fd];
    while (state.to_send > 0) {
      const ssize_t n = send(fd, piece_.data(), std::min(state.to_send, kPiece), 0);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        if (!state.waits_for_space) watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
        state.waits_for_space = true;
        return;
      }
      if (n < 0) die("send");
      state.to_send -= static_cast<std::size_t>(n);
    }
    if (state.waits_for_space) watch(fd, EPOLLIN, EPOLL_CTL_MOD);
    state.waits_for_space = false;
  }

  void end(int fd) {
    close(fd);
    if (++closed_ == settings_.connections) say("closed " + std::to_string(now_seconds()));
  }

  const Settings& settings_;
  int listener_;
  int epoll_;
  long closed_ = 0;
  std::vector<State> states_;  // by descriptor
  std::vector<char> piece_ = std::vector<char>(kPiece);
};

Settings parse(int argc, char** argv) {
  static const option options[] = {{"listen", required_argument, nullptr, 'l'},
                                   {"form", required_argument, nullptr, 'f'},
                                   {"connections", required_argument, nullptr, 'n'},
                                   {"bulk-in", required_argument, nullptr, 'i'},
                                   {"bulk-out", required_argument, nullptr, 'o'},
                                   {}};
  Settings s;
  for (int c; (c = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    if (c == 'l')
      s.listen = optarg;
    else if (c == 'f')
      s.form = optarg;
    else if (c == 'n')
      s.connections = number("connections", optarg);
    else if (c == 'i')
      s.bulk_in = static_cast<std::size_t>(number("bulk-in", optarg));
    else if (c == 'o')
      s.bulk_out = static_cast<std::size_t>(number("bulk-out", optarg));
    else
      std::exit(2);
  }
  if (s.form != "serial" && s.form != "threads" && s.form != "epoll")
    die_plain("--form: serial, threads or epoll, not '" + s.form + "'");
  if (s.bulk_in == 0) die_plain("--bulk-in: at least 1");
  return s;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  const bench::Settings settings = bench::parse(argc, argv);
  bench::prepare_process();
  const int listener = bench::listen_and_say(settings.listen);
  if (settings.form == "threads") bench::serve_with_threads(listener);
  if (settings.form == "epoll") bench::EpollServer(listener, settings).run();
  bench::serve_serially(listener, settings.connections);
  return 0;
}
