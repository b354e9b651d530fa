// Many connections on which nothing happens.
//
//   idle serve --connections 1000        says "ready PORT", later "established"
//   idle connect --port PORT --connections 1000
//
// One message goes there and back on every connection; then both sides say "established" and sleep
// in epoll_wait. A line on stdin of the client lets every connection exchange one more message (each
// side says "alive"); end of stdin ends the process.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "common/options.h"
#include "common/program.h"

namespace shunt::test {
namespace {

struct Settings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  int connections = 1000;
};

class Loop {
 public:
  Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) die("epoll_create1");
    add(STDIN_FILENO);
  }
  void add(int fd) {
    epoll_event event{EPOLLIN, {}};
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  }
  // Calls `on_ready` for every ready descriptor but stdin; a line on stdin calls `on_line`. Returns
  // when stdin has ended.
  template <class OnReady, class OnLine>
  void run(OnReady on_ready, OnLine on_line) {
    epoll_event events[64];
    for (;;) {
      const int n = epoll_wait(epoll_, events, 64, -1);
      if (n < 0 && errno != EINTR) die("epoll_wait");
      for (int i = 0; i < n; ++i) {
        if (events[i].data.fd != STDIN_FILENO) {
          on_ready(events[i].data.fd);
          continue;
        }
        char line[64];
        if (read(STDIN_FILENO, line, sizeof line) <= 0) return;
        on_line();
      }
    }
  }

 private:
  int epoll_;
};

// One byte; false at the end of the connection.
bool take(int fd, char* byte) {
  const ssize_t n = recv(fd, byte, 1, 0);
  if (n < 0) die("recv");
  return n == 1;
}

void give(int fd, char byte) {
  if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) die("send");
}

void serve(const Settings& s) {
  const int listener = listen_and_say(s.host, s.port, 4096);
  Loop loop;
  loop.add(listener);
  int echoed = 0;
  loop.run(
      [&](int fd) {
        char byte;
        if (fd == listener) {
          loop.add(accept_one(listener));
        } else if (!take(fd, &byte)) {
          close(fd);
        } else {
          give(fd, byte);
          if (++echoed == s.connections) say("established");
          if (echoed == 2 * s.connections) say("alive");
        }
      },
      [] {});
}

void connect_all(const Settings& s) {
  Loop loop;
  std::vector<int> fds;
  for (int i = 0; i < s.connections; ++i) {
    fds.push_back(connect_to(s.host, s.port));
    loop.add(fds.back());
    give(fds.back(), '1');
  }
  int answered = 0;
  loop.run(
      [&](int fd) {
        char byte;
        if (!take(fd, &byte)) die_plain("a connection ended");
        if (byte != (answered < s.connections ? '1' : '2')) die_plain("a wrong byte");
        if (++answered == s.connections) say("established");
        if (answered == 2 * s.connections) say("alive");
      },
      [&] {
        for (int fd : fds) give(fd, '2');
      });
}

}  // namespace
}  // namespace shunt::test

int main(int argc, char** argv) {
  shunt::test::Settings s;
  shunt::test::Options app{"Many idle connections"};
  shunt::test::Options serve = app.command("serve", "accept and answer");
  shunt::test::Options connect = app.command("connect", "open the connections");
  for (auto* command : {&serve, &connect}) {
    command->value("--host", s.host, "numeric address");
    command->value("--port", s.port, "port");
    command->value("--connections", s.connections, "how many");
  }
  app.parse(argc, argv);
  shunt::test::limit_time(120);
  shunt::test::raise_descriptor_limit();
  if (serve.given()) {
    shunt::test::serve(s);
  } else {
    shunt::test::connect_all(s);
  }
  return 0;
}
