#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace bench {

void die(const std::string& what) { die_plain(what + ": " + std::strerror(errno)); }

void die_plain(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, what.c_str());
  std::_Exit(1);  // other threads may be at work
}

void prepare_process() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  pollfd runner{STDIN_FILENO, POLLIN, 0};
  if (poll(&runner, 1, 0) == 1 && (runner.revents & POLLHUP))
    die_plain("the runner has gone");  // and with it a tracer, before the line above
  signal(SIGPIPE, SIG_IGN);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) die("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) die("setrlimit");
}

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

bool next_command(std::string* line) {
  char text[128];
  if (!std::fgets(text, sizeof text, stdin)) return false;
  *line = text;
  while (!line->empty() && line->back() == '\n') line->pop_back();
  return true;
}

double now_seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

long number(const std::string& option, const char* text) {
  char* end = nullptr;
  errno = 0;
  const long value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || value < 0)
    die_plain("--" + option + ": not a number: '" + text + "'");
  return value;
}

int listen_and_say(const std::string& family) {
  const bool local = family == "unix";
  if (!local && family != "tcp") die_plain("--listen: tcp or unix, not '" + family + "'");
  const int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  sockaddr_storage address{};
  auto* inet = reinterpret_cast<sockaddr_in*>(&address);
  auto* name = reinterpret_cast<sockaddr_un*>(&address);
  socklen_t length = local ? sizeof(sa_family_t) : sizeof(sockaddr_in);  // only a family: autobind
  if (local) {
    name->sun_family = AF_UNIX;
  } else {
    inet->sin_family = AF_INET;
    inet->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) die("bind");
  if (listen(fd, 4096) != 0) die("listen");
  length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) die("getsockname");
  if (local) {
    const std::size_t size = length - offsetof(sockaddr_un, sun_path) - 1;
    say("ready @" + std::string(name->sun_path + 1, size));
  } else {
    say("ready 127.0.0.1:" + std::to_string(ntohs(inet->sin_port)));
  }
  return fd;
}

Address::Address(const std::string& text) {
  if (text.rfind('@', 0) == 0) {
    auto* name = reinterpret_cast<sockaddr_un*>(&storage);
    if (text.size() > sizeof name->sun_path) die_plain("--to: the name is too long");
    name->sun_family = AF_UNIX;
    std::memcpy(name->sun_path + 1, text.data() + 1, text.size() - 1);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size());
    return;
  }
  const std::size_t colon = text.find(':');
  auto* inet = reinterpret_cast<sockaddr_in*>(&storage);
  inet->sin_family = AF_INET;
  if (colon == std::string::npos ||
      inet_pton(AF_INET, text.substr(0, colon).c_str(), &inet->sin_addr) != 1)
    die_plain("--to: neither ADDRESS:PORT nor @NAME: '" + text + "'");
  inet->sin_port = htons(static_cast<std::uint16_t>(number("to", text.c_str() + colon + 1)));
  length = sizeof *inet;
}

int connect_to(const Address& address) {
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0)
    die("connect");
  return fd;
}

void send_all(int fd, const char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = send(fd, data + done, size - done, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die("send");
    done += static_cast<std::size_t>(n);
  }
}

bool receive_all(int fd, char* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t n = recv(fd, data + done, size - done, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) die("recv");
    if (n == 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace bench
