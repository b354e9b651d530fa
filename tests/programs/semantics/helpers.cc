// Helper programs that the cases start as processes of their own (`--helper=NAME`).
#include <cstdio>
#include <cstdlib>

#include "net.h"

namespace shunt::test {
namespace {

// Prints its port, takes one connection and sends everything back at its end.
int echo_server() {
  Fd listener = listen_on();
  std::printf("%d\n", port_of(listener));
  std::fflush(stdout);
  Fd fd = accept_from(listener);
  send_all(fd, recv_to_eof(fd));
  return 0;
}

// Sends SIZE bytes to PORT, ends its half and expects the same bytes back.
int echo_client(const std::vector<std::string>& arguments) {
  Fd fd = connect_to("127.0.0.1", static_cast<std::uint16_t>(std::stoi(arguments.at(0))));
  const std::string data = pattern(std::stoul(arguments.at(1)));
  send_all(fd, data);
  shutdown(fd, SHUT_WR);
  return recv_to_eof(fd) == data ? 0 : 1;
}

int cat() {
  char block[10'000];
  for (;;) {
    const ssize_t n = read(STDIN_FILENO, block, sizeof block);
    if (n <= 0) return n == 0 ? 0 : 1;
    for (ssize_t done = 0; done < n;) {
      const ssize_t m = write(STDOUT_FILENO, block + done, static_cast<std::size_t>(n - done));
      if (m < 0) return 1;
      done += m;
    }
  }
}

}  // namespace

int run_helper(const std::string& name, const std::vector<std::string>& arguments) {
  if (name == "echo-server") return echo_server();
  if (name == "echo-client") return echo_client(arguments);
  if (name == "cat") return cat();
  std::fprintf(stderr, "socket_semantics_test: no helper named %s\n", name.c_str());
  return 2;
}

}  // namespace shunt::test
