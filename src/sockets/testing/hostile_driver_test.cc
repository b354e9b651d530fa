// In a window, a CONNECT that claims to come by way of the driver is believed of the window's owner and
// of root only: others could name any source address.
#include <poll.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "sockets/process/config.h"
#include "sockets/testing/test_hostile.h"

namespace shunt::sockets {
namespace {

constexpr uid_t kStranger = 65534;

// A window of one partition in a directory of its own, in use by this process.
struct Window {
  std::filesystem::path directory;

  Window() {
    char name[] = "/tmp/shunt-hostile-XXXXXX";
    directory = ::mkdtemp(name);
    wire::PartitionTable table{};
    table.count = 1;
    table.partitions[0].number = 1;
    table.partitions[0].name_bytes = {'a'};
    table.partitions[0].address_count = 1;
    table.partitions[0].addresses[0] = {AF_INET, 0, {10, 0, 0, 1}};
    const wire::TableBytes bytes = wire::encode_table(table);
    std::ofstream(directory / wire::kTableFile, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    ::setenv("SHUNT_WINDOW", directory.c_str(), 1);
    ::setenv("SHUNT_PARTITION", "a", 1);
    read_config();
    EXPECT_NE(nullptr, partition_table());
  }
  ~Window() {
    ::unsetenv("SHUNT_WINDOW");
    ::unsetenv("SHUNT_PARTITION");
    read_config();
    std::filesystem::remove_all(directory);
  }
};

// Speaks as a driver would; the answer for the connecting side goes to the other end of `bell`.
void request_as_driver(const Server& server, Liar& liar, int bell) {
  liar.reach(server);
  wire::Message m = liar.connect_message(server.local);
  m.flags = wire::kViaDriver;
  m.source = {AF_INET, 4711, {10, 0, 0, 9}};
  const wire::MessageBytes bytes = wire::encode(m);
  const int fds[2] = {liar.area_fd, bell};
  EXPECT_EQ(256, sys::send_fds(liar.bell, bytes.data(), bytes.size(), fds, 2, 0));
}

struct HostileDriver : testing::Test {
  Window window;
  Server server;
  int bells[2];

  HostileDriver() { EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bells)); }
  ~HostileDriver() override {
    ::close(bells[0]);
    ::close(bells[1]);
  }
};

TEST_F(HostileDriver, TheOwnerIsBelieved) {
  if (::geteuid() != 0) GTEST_SKIP() << "compared with the test of a stranger, which needs root";
  Liar driver;
  request_as_driver(server, driver, bells[1]);
  const End accepted = server.accept();
  ASSERT_TRUE(accepted.shunted());
  EXPECT_EQ(4711, accepted.connection()->remote.port);
}

TEST_F(HostileDriver, AStrangerIsNot) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(kStranger, kStranger, kStranger) != 0) ::_exit(1);
    Liar stranger;
    request_as_driver(server, stranger, bells[1]);
    ::_exit(stranger.hung_up() && !HasFailure() ? 0 : 2);
  }
  pollfd p{waiting_descriptor(server.end.fd, server.end.socket), POLLIN, 0};
  int status = 0;
  // The child waits for the hang-up, for two seconds at most.
  while (::waitpid(child, &status, WNOHANG) == 0) {
    ::poll(&p, 1, 10);
    EXPECT_EQ(-EAGAIN, server.accept_raw());
  }
  EXPECT_EQ(0, status);
  const Neighbour honest(server);
  honest.expect_unharmed();
}

}  // namespace
}  // namespace shunt::sockets
