// In a window, a CONNECT that claims to come by way of the driver is believed of the window's owner and
// of root only: others could name any source address. And only they are asked for a connection as the driver.
#include <poll.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "sockets/process/config.h"
#include "sockets/process/identity.h"
#include "sockets/testing/test_hostile.h"

namespace shunt::sockets {
namespace {

constexpr uid_t kStranger = 65534;

// A window of two partitions in a directory of its own, in use by this process.
struct Window {
  std::filesystem::path directory;

  Window() {
    char name[] = "/tmp/shunt-hostile-XXXXXX";
    directory = ::mkdtemp(name);
    wire::PartitionTable table{};
    table.count = 2;
    table.partitions[0].number = 1;
    table.partitions[0].name_bytes = {'a'};
    table.partitions[0].address_count = 1;
    table.partitions[0].addresses[0] = {AF_INET, 0, {10, 0, 0, 1}};
    table.partitions[1].number = 2;
    table.partitions[1].name_bytes = {'b'};
    table.partitions[1].address_count = 1;
    table.partitions[1].addresses[0] = {AF_INET, 0, {127, 0, 2, 1}};
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
  Liar driver(ring::Form::kWhole);
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
    Liar stranger(ring::Form::kWhole);
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

// At the place of the own partition's driver; `uid` listens there. What a program that connects to b sent him.
long asked_for_b(const Window& window, uid_t uid) {
  const sockaddr_un address =
      wire::window_socket(window.directory.c_str(), "a", wire::kDriverSuffix).value();
  const int listening = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  EXPECT_EQ(0, ::bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  EXPECT_EQ(0, sys::raw(SYS_setresuid, -1, uid, -1));  // of this thread
  forget_user();
  EXPECT_EQ(0, ::listen(listening, 4));
  EXPECT_EQ(0, sys::raw(SYS_setresuid, -1, 0, -1));
  forget_user();
  const End client = tcp_socket();
  ::fcntl(client.fd, F_SETFL, O_NONBLOCK);
  sockaddr_in in = loopback(0);
  EXPECT_EQ(0, ::bind(client.fd, reinterpret_cast<const sockaddr*>(&in), sizeof in));
  in = loopback(7000);
  in.sin_addr.s_addr = htonl(0x7f000201);
  EXPECT_EQ(kPassOn, connect_socket(client.fd, client.socket,
                                    reinterpret_cast<const sockaddr*>(&in), sizeof in));
  EXPECT_EQ(wire::Reason::kDriverDown, client.socket->reason);
  const int program = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  EXPECT_LE(0, program);
  char bytes[512];
  const long n = ::recv(program, bytes, sizeof bytes, MSG_DONTWAIT);
  ::close(program);
  ::close(listening);
  ::unlink(address.sun_path);
  return n;
}

TEST_F(HostileDriver, AStrangerInTheDriversPlaceIsAskedForNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  EXPECT_EQ(256, asked_for_b(window, 0)) << "root would be, and does not answer";
  EXPECT_EQ(0, asked_for_b(window, kStranger)) << "a connection that was closed at once";
}

TEST_F(HostileDriver, TheWindowsOwnerInTheDriversPlaceIsAsked) {
  if (::geteuid() != 0) GTEST_SKIP() << "no right to become somebody else";
  EXPECT_EQ(0, ::chown((window.directory / wire::kTableFile).c_str(), kStranger, kStranger));
  read_config();
  EXPECT_EQ(256, asked_for_b(window, kStranger));
}

}  // namespace
}  // namespace shunt::sockets
