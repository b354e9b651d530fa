// Connections to partitions on other kernels, with a driver played by hand over a plain file: areas that it gives, ends
// that it tells, and what it, the peer or the window must not get away with.
#include <signal.h>

#include <chrono>
#include <thread>

#include "sockets/bell/look.h"
#include "sockets/holders/fork.h"
#include "sockets/holders/inherit.h"
#include "sockets/process/result.h"
#include "sockets/stream/stream.h"
#include "sockets/testing/test_relayed.h"

namespace shunt::sockets {
namespace {

struct Relayed : testing::Test {
  FakeRangeDriver driver;
  End client = tcp_socket();
  char bytes[1000];

  Outcome connect(const wire::Location& area, std::uint32_t generation, int given) {
    std::thread serving([&, given] { driver.serve(area, generation, given); });
    const sockaddr_in in = there();
    const Outcome r =
        connect_socket(client.fd, client.socket, reinterpret_cast<const sockaddr*>(&in), sizeof in);
    serving.join();
    return r;
  }
  void connect_well() {
    ASSERT_EQ(0, connect(kOwn, kOwnGeneration, reopened(driver.device)));
    ASSERT_TRUE(client.shunted() && client.connection()->relayed);
    driver.connected();
  }
  long receive() { return client.receive(bytes, sizeof bytes); }
  void expect_reset() {
    EXPECT_EQ(-ECONNRESET, receive());
    EXPECT_EQ(0, receive());
  }
};

TEST_F(Relayed, BytesBothWaysAndBothAreasUnmapped) {
  const auto mapped = [] {
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    for (std::string line; std::getline(maps, line);) {
      count += line.find("/memfd:device") != std::string::npos;
    }
    return count;
  };
  const int before = mapped();
  connect_well();
  EXPECT_EQ(700, client.send(std::string(700, 'y').data(), 700));
  driver.write(500);
  EXPECT_EQ(500, receive());
  EXPECT_EQ(-EAGAIN, receive());
  ring::Status status;
  std::uint8_t got[1000];
  EXPECT_EQ(ring::Status::kOk, driver.reader().refresh());
  EXPECT_EQ(700u, driver.reader().read(got, sizeof got, &status));
  EXPECT_EQ('y', got[699]);
  client = End();
  pollfd p{driver.bell, 0, 0};
  EXPECT_EQ(1, ::poll(&p, 1, 1000));
  EXPECT_NE(0, p.revents & POLLHUP);
  EXPECT_EQ(before, mapped());
}

TEST_F(Relayed, ThePeersEndIsAnEndBehindItsBytes) {
  connect_well();
  driver.write(500);
  driver.tell(layout::kFatePeerClosed);
  EXPECT_EQ(500, receive());
  EXPECT_EQ(0, receive());
  driver.die();
  EXPECT_EQ(0, receive());
}

TEST_F(Relayed, AReaderThatSleepsIsWokenByTheEnd) {
  connect_well();
  auto result = std::async(std::launch::async, [&] { return client.receive(bytes, 10, 0); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  driver.tell(layout::kFatePeerClosed);
  EXPECT_EQ(0, within_seconds(10, result, [&] { driver.die(); }));
}

TEST_F(Relayed, AHalfShutBellAloneIsNoEnd) {
  connect_well();
  ::shutdown(client.fd, SHUT_RD);
  EXPECT_EQ(-EAGAIN, receive());
  look_at_bell(client.fd, client.socket);
  driver.write(5);
  EXPECT_EQ(5, receive());
}

TEST_F(Relayed, ShutdownWakesTheOwnSleepers) {
  connect_well();
  auto result = std::async(std::launch::async, [&] { return client.receive(bytes, 10, 0); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(0, shutdown_stream(client.fd, client.socket, SHUT_RDWR));
  EXPECT_EQ(0, within_seconds(10, result, [&] { driver.die(); }));
  pollfd p{driver.bell, POLLIN | POLLRDHUP, 0};
  ::poll(&p, 1, 0);
  EXPECT_EQ(0, p.revents & (POLLHUP | POLLRDHUP)) << "the driver would take it for an end";
}

TEST_F(Relayed, ADriversDeathIsAReset) {
  connect_well();
  driver.write(500);
  driver.die();
  look_at_bell(client.fd, client.socket);
  EXPECT_EQ(500, receive());  // nobody has looked yet; it is the connection's still
  expect_reset();
  EXPECT_EQ(-EPIPE, client.send("x", 1));
}

TEST_F(Relayed, AnEndWhoseBytesAreLostIsAReset) {
  connect_well();
  driver.write(500);
  driver.writer().set_flags(layout::kFlagFin);
  EXPECT_EQ(100, client.receive(bytes, 100));
  absorb_events(client.connection());
  driver.die();
  look_at_bell(client.fd, client.socket);
  absorb_events(client.connection());
  expect_reset();
}

TEST_F(Relayed, APartitionDeclaredDeadIsAReset) {
  connect_well();
  driver.tell(layout::kFateReset);
  look_at_bell(client.fd, client.socket);
  expect_reset();
}

TEST_F(Relayed, AnAreaThatChangedHandsSaysNothing) {
  connect_well();
  driver.write(500);
  EXPECT_EQ(100, client.receive(bytes, 100));
  ring::init_area(driver.peer, kPeerGeneration + 1);
  driver.peer->hot.flags.store(layout::kFlagFin);
  absorb_events(client.connection());
  expect_reset();
}

TEST_F(Relayed, NeverAcceptedIsAReset) {
  ASSERT_EQ(0, connect(kOwn, kOwnGeneration, reopened(driver.device)));
  driver.tell(layout::kFateReset);
  expect_reset();
}

TEST_F(Relayed, APeerThatLeavesItsRingsIsReset) {
  connect_well();
  EXPECT_EQ(-EAGAIN, receive());
  const std::uint64_t resets = untrusted_resets();
  driver.peer->switch_line.plain.store(layout::kPlain);
  driver.peer->hot.flags.store(layout::kFlagPlain);
  expect_reset();
  EXPECT_EQ(resets + 1, untrusted_resets());
}

TEST_F(Relayed, IsNotHandedOn) {
  connect_well();
  EXPECT_EQ(-EAGAIN, downgrade_for_passing(client.fd));
  KeptBack kept;
  ::fcntl(client.fd, F_SETFD, 0);
  downgrade_inherited(&kept);
  EXPECT_EQ(1, kept.count);
  EXPECT_EQ(FD_CLOEXEC, ::fcntl(client.fd, F_GETFD));
  release_kept(kept);
  EXPECT_EQ(0, ::fcntl(client.fd, F_GETFD));
  driver.write(5);
  EXPECT_EQ(5, receive());
}

TEST_F(Relayed, AForkBeforeConnectedKeepsTheAddresses) {
  ASSERT_EQ(0, connect(kOwn, kOwnGeneration, reopened(driver.device)));
  before_fork();
  const void* reserved = client.connection()->reserved;
  ASSERT_NE(nullptr, reserved);
  EXPECT_EQ(0u, reinterpret_cast<std::uintptr_t>(reserved) % (2u << 20));
  driver.connected();
  driver.write(5);
  EXPECT_EQ(5, receive());
  EXPECT_EQ(reserved, static_cast<const void*>(client.connection()->peer.load()));
}

TEST_F(Relayed, GrantsThatAreNoneLeaveNothingBehind) {
  const Holdings before = Holdings::now();
  const wire::Location beyond{wire::kObjectWindow, 2 * kStride, kStride};
  const wire::Location crooked{wire::kObjectWindow, 12, kStride};
  const wire::Location shorter{wire::kObjectWindow, 0, kStride / 2};
  const wire::Location memory{wire::kObjectDescriptor, 0, kStride};
  const wire::Location wrapping{wire::kObjectWindow, ~std::uint64_t{4095}, kStride};
  for (const wire::Location& where : {beyond, crooked, shorter, memory, wrapping}) {
    EXPECT_EQ(kPassOn, connect(where, kOwnGeneration, reopened(driver.device)));
    driver.die();
  }
  EXPECT_EQ(kPassOn, connect(kOwn, kOwnGeneration + 1, reopened(driver.device)));
  driver.die();
  EXPECT_EQ(kPassOn, connect(kOwn, 0, reopened(driver.device)));
  driver.die();
  EXPECT_EQ(kPassOn, connect(kOwn, kOwnGeneration, -1));
  driver.die();
  EXPECT_EQ(before, Holdings::now());
}

TEST_F(Relayed, AConnectedThatIsNoneIsAReset) {
  ASSERT_EQ(0, connect(kOwn, kOwnGeneration, reopened(driver.device)));
  driver.connected({wire::kObjectWindow, 2 * kStride, kStride});
  expect_reset();
}

// ---- the listening side ----

struct RelayedListener : testing::Test {
  FakeRangeDriver driver;
  Server server;
  Liar rendezvous;
  int program_bell = -1;

  void arrive(const wire::Location& own) {
    int pair[2];
    ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    driver.bell = pair[0];
    rendezvous.reach(server);
    wire::Message m = rendezvous.connect_message(server.local);
    m.flags = wire::kViaDriver;
    m.source = kThere;
    m.area = kPeer;
    m.arena = {};
    m.generation = kPeerGeneration;
    m.own = own;
    m.own_generation = kOwnGeneration;
    const wire::MessageBytes bytes = wire::encode(m);
    const int fds[2] = {reopened(driver.device), pair[1]};
    EXPECT_EQ(256, sys::send_fds(rendezvous.bell, bytes.data(), bytes.size(), fds, 2, 0));
    ::close(fds[0]);
    ::close(pair[1]);
  }
  wire::MessageType answer() const {
    wire::MessageBytes bytes;
    EXPECT_EQ(256, ::recv(rendezvous.bell, bytes.data(), bytes.size(), 0));
    return wire::decode(bytes.data(), bytes.size()).value().type;
  }
};

TEST_F(RelayedListener, MapsBothAreasAndSendsNone) {
  arrive(kOwn);
  const End accepted = server.accept();
  ASSERT_TRUE(accepted.shunted() && accepted.connection()->relayed);
  EXPECT_EQ(wire::MessageType::kConnected, answer());
  wire::MessageBytes bytes;
  int fd = -1;
  int count = 0;
  EXPECT_EQ(256, sys::recv_fds(driver.bell, bytes.data(), bytes.size(), &fd, 1, &count, 0));
  EXPECT_EQ(0, count);
  EXPECT_EQ(wire::MessageType::kConnected, wire::decode(bytes.data(), bytes.size()).value().type);
  driver.write(300);
  char got[1000];
  EXPECT_EQ(300, accepted.receive(got, sizeof got));
  EXPECT_EQ(3, accepted.send("abc", 3));
  EXPECT_EQ(ring::Status::kOk, driver.reader().refresh());
  EXPECT_EQ(3u, driver.reader().available());
  driver.tell(layout::kFatePeerClosed);
  look_at_bell(accepted.fd, accepted.socket);
  EXPECT_EQ(-ECONNRESET, accepted.receive(got, sizeof got)) << "three bytes were left unread";
}

TEST_F(RelayedListener, RefusesWhatIsNoRange) {
  arrive({wire::kObjectWindow, 2 * kStride, kStride});
  EXPECT_LT(server.accept_raw(), 0);
  EXPECT_EQ(wire::MessageType::kRefused, answer());
  pollfd p{driver.bell, POLLIN, 0};
  EXPECT_EQ(1, ::poll(&p, 1, 1000));
  EXPECT_NE(0, p.revents & POLLHUP);
}

}  // namespace
}  // namespace shunt::sockets
