// Programs, listeners and other drivers that do not keep to the rules. Each must be told off, and the
// driver must serve the next honest request.
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <thread>

#include "driver/core/datagram.h"
#include "driver/strangers/source_check.h"
#include "driver/support_test.h"
#include "window/backing.h"
#include "window/output_queue.h"
#include "window/queue_reader.h"
#include "window/section_file.h"
#include "wire/rendezvous_name.h"

namespace shunt::driver {
namespace {

using window::UniqueFd;
using wire::Reason;

constexpr std::uint32_t number(Reason r) { return static_cast<std::uint32_t>(r); }

class HostileProgram : public WindowFixture {
 protected:
  void SetUp() override {
    WindowFixture::SetUp();
    a = std::make_unique<DriverProcess>(dir, "a", layout::NotifyMode::kInterrupt);
    b = std::make_unique<DriverProcess>(dir, "b", layout::NotifyMode::kPoll);
    listener = std::make_unique<FakeListener>();
  }
  void expect_alive() { EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener->address)); }
  std::uint32_t ask_reserving(UniqueFd reserved) {
    FakeProgram program(dir);
    program.reserved = std::move(reserved);
    return program.ask(listener->address);
  }
  std::unique_ptr<DriverProcess> a;
  std::unique_ptr<DriverProcess> b;
  std::unique_ptr<FakeListener> listener;
};

TEST_F(HostileProgram, SourcesThatAreNotReservedHereAreRefused) {
  EXPECT_EQ(number(Reason::kBadSource), ask_reserving(tcp_socket("127.0.9.9")));
  EXPECT_EQ(number(Reason::kBadSource), ask_reserving(tcp_socket(kAddressB)));
  EXPECT_EQ(number(Reason::kBadSource), ask_reserving(tcp_socket(nullptr)));  // not bound
  EXPECT_EQ(number(Reason::kBadSource),
            ask_reserving(UniqueFd(::memfd_create("no socket", MFD_CLOEXEC))));
  EXPECT_EQ(number(Reason::kBadSource),
            ask_reserving(UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))));
  UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address;
  const socklen_t length = wire::to_sockaddr(endpoint(kAddressA, 0), AF_INET, &address);
  ASSERT_EQ(0, ::bind(udp.get(), reinterpret_cast<sockaddr*>(&address), length));
  EXPECT_EQ(number(Reason::kBadSource), ask_reserving(std::move(udp)));
  UniqueFd listening = tcp_socket(kAddressA);
  ASSERT_EQ(0, ::listen(listening.get(), 1));
  EXPECT_EQ(number(Reason::kBadSource), ask_reserving(std::move(listening)));
  expect_alive();
}

TEST_F(HostileProgram, WildcardSourceBecomesThePartitionsAddress) {
  FakeProgram program(dir);
  program.reserved = tcp_socket("0.0.0.0");
  const std::uint16_t port = port_of(program.reserved.get());
  ASSERT_EQ(kQueued, program.ask(listener->address));
  EXPECT_EQ(endpoint(kAddressA, port), listener->accept().connect.source);
}

TEST_F(HostileProgram, PortReservedInAnotherNetworkNamespaceIsRefused) {
  FakeProgram program(dir);
  bool made = false;
  std::thread elsewhere([&] {
    if (::unshare(CLONE_NEWNET) != 0) return;
    program.reserved = tcp_socket("0.0.0.0");
    made = true;
  });
  elsewhere.join();
  if (!made) GTEST_SKIP() << "may not make a network namespace here";
  EXPECT_EQ(number(Reason::kBadSource), program.ask(listener->address));
  expect_alive();
}

TEST_F(HostileProgram, DestinationsOutsideTheOtherPartitionsAreRefused) {
  EXPECT_EQ(number(Reason::kNotInWindow), FakeProgram(dir).ask(endpoint("10.1.2.3", 80)));
  EXPECT_EQ(number(Reason::kNotInWindow), FakeProgram(dir).ask(endpoint(kAddressA, 80)));
  EXPECT_EQ(number(Reason::kRefused), FakeProgram(dir).ask(endpoint(kAddressB, 0)));
  expect_alive();
}

TEST_F(HostileProgram, MalformedRequestsAreRefused) {
  const auto verdict_on = [&](std::span<const std::uint8_t> bytes, int fd_count) {
    FakeProgram p(dir);
    const std::array<int, 4> fds{p.area.get(), p.reserved.get(), p.far_bell.get(), p.area.get()};
    const std::span some(fds.data(), static_cast<std::size_t>(fd_count));
    EXPECT_EQ(0, send_with_fds(p.socket.get(), bytes, some));
    const auto answer = p.verdict();
    return answer ? answer->reason : ~0u;
  };
  const wire::Message good = FakeProgram(dir).request(listener->address);
  const wire::MessageBytes bytes = wire::encode(good);
  for (const int fds : {0, 1, 2, 4}) EXPECT_EQ(number(Reason::kRefused), verdict_on(bytes, fds));
  EXPECT_EQ(number(Reason::kRefused), verdict_on(std::span(bytes).first(255), 3));
  std::vector<std::uint8_t> longer(bytes.begin(), bytes.end());
  longer.push_back(0);
  EXPECT_EQ(number(Reason::kRefused), verdict_on(longer, 3));
  EXPECT_EQ(number(Reason::kRefused), verdict_on(std::vector<std::uint8_t>(256, 0xff), 3));
  for (const auto type :
       {wire::MessageType::kConnected, wire::MessageType::kRefused, wire::MessageType::kStatus}) {
    wire::Message wrong = good;
    wrong.type = type;
    EXPECT_EQ(number(Reason::kRefused), verdict_on(wire::encode(wrong), 3));
  }
  wire::Message flagged = good;
  flagged.flags = wire::kViaDriver;
  EXPECT_EQ(number(Reason::kRefused), verdict_on(wire::encode(flagged), 3));
  FakeProgram no_bell(dir);
  no_bell.far_bell.reset(::dup(no_bell.area.get()));
  EXPECT_EQ(number(Reason::kRefused), no_bell.ask(listener->address));
  EXPECT_EQ(12u, status(1).requests_bad);
  expect_alive();
}

TEST_F(HostileProgram, FloodOfSilentProgramsDoesNotLockOthersOutForLong) {
  rlimit limit{};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &limit));
  if (limit.rlim_cur < 4000) GTEST_SKIP() << "too few descriptors for a flood";
  const auto name = wire::window_socket(dir, "a", wire::kDriverSuffix);
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 1500; ++i) {
    silent.emplace_back(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto* address = reinterpret_cast<const sockaddr*>(&name.value());
    ASSERT_EQ(0, ::connect(silent.back().get(), address, sizeof name.value()));
  }
  // Beyond the bound they are told so, and the others lose their place when their time is over.
  EXPECT_TRUE(eventually([&] { return !status(1).request_refused.empty(); }));
  EXPECT_EQ(number(Reason::kBacklogFull), status(1).request_refused[0].first);
  EXPECT_TRUE(eventually([&] { return FakeProgram(dir).ask(listener->address) == kQueued; }));
}

TEST_F(HostileProgram, AnotherUsersFloodTakesNoPlaceFromTheOthers) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  rlimit limit{};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &limit));
  if (limit.rlim_cur < 4000) GTEST_SKIP() << "too few descriptors for a flood";
  ASSERT_EQ(0, ::chmod(std::filesystem::path(dir).parent_path().c_str(), 0755));
  const auto name = wire::window_socket(dir, "a", wire::kDriverSuffix);
  std::vector<UniqueFd> silent;
  ASSERT_EQ(0, ::seteuid(65534));
  for (int i = 0; i < 1500; ++i) {
    silent.emplace_back(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto* address = reinterpret_cast<const sockaddr*>(&name.value());
    if (::connect(silent.back().get(), address, sizeof name.value()) != 0) break;
  }
  ASSERT_EQ(0, ::seteuid(0));
  ASSERT_EQ(1500u, silent.size());
  EXPECT_TRUE(eventually([&] { return !status(1).request_refused.empty(); }));
  EXPECT_EQ(number(Reason::kBacklogFull), status(1).request_refused[0].first);
  // At once, not when the flood's time is over.
  EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener->address));
}

// His listeners that never accept, here one with a long queue.
TEST_F(HostileProgram, AnotherUsersListenerTakesNoPlaceFromTheOthers) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  int longest = 0;
  std::ifstream("/proc/sys/net/core/somaxconn") >> longest;
  if (longest < 1200) GTEST_SKIP() << "queues are too short for this";
  ASSERT_EQ(0, ::seteuid(65534));
  auto silent = std::make_unique<FakeListener>(kAddressB, 1200);
  ASSERT_EQ(0, ::seteuid(0));
  int queued = 0;
  while (queued < 1100 && FakeProgram(dir).ask(silent->address) == kQueued) ++queued;
  EXPECT_EQ(1024, queued);
  EXPECT_EQ(number(Reason::kBacklogFull), FakeProgram(dir).ask(silent->address));
  EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener->address));
  // When his program is gone, so are its places.
  silent.reset();
  ASSERT_EQ(0, ::seteuid(65534));
  silent = std::make_unique<FakeListener>(kAddressB, 1200);
  ASSERT_EQ(0, ::seteuid(0));
  EXPECT_TRUE(eventually([&] { return FakeProgram(dir).ask(silent->address) == kQueued; }));
}

TEST_F(HostileProgram, SquatterWithAFullBacklogHidesNoListener) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  listener->rendezvous.reset();
  ASSERT_EQ(0, ::seteuid(65534));
  const UniqueFd squatter = listen_at_rendezvous(listener->address, 0);
  ASSERT_EQ(0, ::seteuid(0));
  const wire::UnixName name = wire::rendezvous_name(listener->address, false);
  std::vector<UniqueFd> fillers;
  for (int r = 0; r == 0;) {
    fillers.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    r = ::connect(fillers.back().get(), reinterpret_cast<const sockaddr*>(&name.address),
                  name.length);
  }
  EXPECT_EQ(number(Reason::kUntrustedListener), FakeProgram(dir).ask(listener->address));
  wire::Endpoint any = listener->address;
  any.address = {};
  const UniqueFd wildcard = listen_at_rendezvous(any, 8);
  EXPECT_EQ(kQueued, FakeProgram(dir).ask(listener->address));
}

TEST_F(HostileProgram, SquatterOnTheRendezvousNameIsNotBelieved) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  listener->rendezvous.reset();
  ASSERT_EQ(0, ::seteuid(65534));
  const UniqueFd squatter = listen_at_rendezvous(listener->address, 8);
  ASSERT_EQ(0, ::seteuid(0));
  EXPECT_EQ(number(Reason::kUntrustedListener), FakeProgram(dir).ask(listener->address));
  // The same user with the TCP listener too is who he says.
  const UniqueFd tcp_of_root = std::move(listener->tcp);
  ASSERT_EQ(0, ::seteuid(65534));
  FakeListener honest(kAddressB);
  ASSERT_EQ(0, ::seteuid(0));
  EXPECT_EQ(kQueued, FakeProgram(dir).ask(honest.address));
}

TEST_F(HostileProgram, ListenerWithAFullBacklog) {
  const FakeListener full(kAddressB, 0);
  std::uint32_t reason = kQueued;
  std::deque<FakeProgram> programs;
  for (int i = 0; i < 3 && reason == kQueued; ++i) {
    programs.emplace_back(dir);
    reason = programs.back().ask(full.address);
  }
  EXPECT_EQ(number(Reason::kBacklogFull), reason);
  expect_alive();
}

TEST_F(HostileProgram, ListenerThatAnswersNonsense) {
  FakeProgram program(dir);
  ASSERT_EQ(kQueued, program.ask(listener->address));
  const FakeListener::Arrived arrived = listener->accept();
  const std::vector<std::uint8_t> junk(1000, 0x5a);
  const std::array<int, 1> fds{arrived.rendezvous.get()};
  EXPECT_EQ(0, send_with_fds(arrived.rendezvous.get(), junk, fds));
  // The driver closes: end of connection, or a reset because of what it did not read.
  char byte;
  EXPECT_LE(::recv(arrived.rendezvous.get(), &byte, 1, 0), 0);
  expect_alive();
}

// Partition c played by hand, against the real drivers of a and b.
class HostileDriver : public HostileProgram {
 protected:
  void SetUp() override {
    HostileProgram::SetUp();
    backing = window::open_backing(dir);
    own = std::make_unique<window::SectionFile>(backing, backing.table.partitions[2],
                                                window::Access::kReadWrite);
    b_section = std::make_unique<window::SectionFile>(backing, backing.table.partitions[1],
                                                      window::Access::kReadOnly);
    ASSERT_TRUE(own->try_lock());
    own->writable()->header.life.generation.store(kGeneration);
    queue.emplace(own->writable(), 3u, own->geometry(), kGeneration);
    reader.emplace(own->writable(), 3u, b_section->section(), 2u, own->geometry());
    own->writable()->header.life.state.store(1);
  }
  window::PushResult push(const wire::MessageBytes& bytes) {
    return queue->push(2, b_section->section(), bytes);
  }
  wire::Message request(std::uint64_t id) {
    wire::Message m;
    m.id = id;
    m.partition = 3;
    m.source = endpoint(kAddressC, 4000);
    m.destination = listener->address;
    m.area = {wire::kObjectDescriptor, 0, 4096};
    return m;
  }
  void send_descriptors(std::uint64_t id, std::uint32_t partition = 3) {
    Datagram d;
    d.kind = static_cast<std::uint32_t>(DatagramKind::kDescriptors);
    d.partition = partition;
    d.generation = kGeneration;
    d.id = id;
    const UniqueFd area(::memfd_create("area", MFD_CLOEXEC));
    const std::array<int, 2> fds{area.get(), area.get()};
    send_datagram(&d, sizeof d, fds);
  }
  void send_datagram(const void* bytes, std::size_t size, std::span<const int> fds) {
    const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto name = wire::window_socket(dir, "b", wire::kPeerSuffix);
    ASSERT_EQ(0, ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name.value()),
                           sizeof name.value()));
    // The driver empties its socket at least with each heartbeat.
    EXPECT_TRUE(eventually([&] {
      return send_with_fds(socket.get(), {static_cast<const std::uint8_t*>(bytes), size}, fds) !=
             EAGAIN;
    }));
  }
  // What b answers in its lane to c.
  std::uint32_t answer() {
    wire::MessageBytes bytes;
    if (!eventually([&] { return reader->read(&bytes) == window::ReadResult::kMessage; }))
      return ~0u;
    const auto m = wire::decode(bytes.data(), bytes.size());
    return m.ok() ? m.value().reason : ~0u;
  }
  std::uint32_t answer_to(const wire::Message& m) {
    EXPECT_EQ(window::PushResult::kPushed, push(wire::encode(m)));
    return answer();
  }

  static constexpr std::uint64_t kGeneration = 7;
  window::Backing backing;
  std::unique_ptr<window::SectionFile> own;
  std::unique_ptr<window::SectionFile> b_section;
  std::optional<window::OutputQueue> queue;
  std::optional<window::QueueReader> reader;
};

TEST_F(HostileDriver, HonestMessagesGetThrough) {
  send_descriptors(1);
  EXPECT_EQ(kQueued, answer_to(request(1)));
}

TEST_F(HostileDriver, SourcesOfOtherPartitionsAreRefused) {
  send_descriptors(1);
  wire::Message m = request(1);
  m.source = endpoint(kAddressA, 4000);
  EXPECT_EQ(number(Reason::kBadSource), answer_to(m));
  send_descriptors(2);
  m = request(2);
  m.partition = 1;
  EXPECT_EQ(number(Reason::kRefused), answer_to(m));
  send_descriptors(3);
  m = request(3);
  m.destination = endpoint(kAddressA, 80);
  EXPECT_EQ(number(Reason::kNotInWindow), answer_to(m));
  expect_alive();
}

TEST_F(HostileDriver, ConnectWithoutItsOwnDescriptorsIsRefused) {
  EXPECT_EQ(number(Reason::kRefused), answer_to(request(1)));
  send_descriptors(2);
  EXPECT_EQ(number(Reason::kRefused), answer_to(request(3)));
  send_descriptors(4, 1);  // in another partition's name
  EXPECT_EQ(number(Reason::kRefused), answer_to(request(4)));
  expect_alive();
}

TEST_F(HostileDriver, JunkInTheLaneIsSkipped) {
  wire::MessageBytes junk;
  junk.fill(0xa5);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(window::PushResult::kPushed, push(junk));
  wire::Message verdict;
  verdict.type = wire::MessageType::kStatus;
  verdict.id = 99;  // nobody asked
  ASSERT_EQ(window::PushResult::kPushed, push(wire::encode(verdict)));
  send_descriptors(1);
  EXPECT_EQ(kQueued, answer_to(request(1)));
  EXPECT_EQ(100u, status(2).messages_bad);
  expect_alive();
}

TEST_F(HostileDriver, CountersBeyondTheRingCostOnlyThatLane) {
  own->writable()->lanes[1].head.store(1u << 30);
  EXPECT_TRUE(eventually([&] { return status(2).messages_bad == 1; }));
  expect_alive();
  // A lying acknowledgement: b cannot answer c any more, but serves a.
  own->writable()->acks[1].generation.store(b_section->section()->header.life.generation.load());
  own->writable()->acks[1].tail.store(1u << 30);
  queue.emplace(own->writable(), 3u, own->geometry(), kGeneration + 1);
  ASSERT_EQ(window::PushResult::kPushed, push(wire::encode(request(5))));
  EXPECT_TRUE(eventually([&] { return status(2).lane_full == 1; }));
  expect_alive();
}

TEST_F(HostileDriver, SectionTruncatedUnderTheOthersIsOnlyADeadPartition) {
  std::filesystem::resize_file(dir + "/c.section", 0);
  expect_alive();
  EXPECT_EQ(number(Reason::kPeerDriverDown), FakeProgram(dir).ask(endpoint(kAddressC, 80)));
}

TEST_F(HostileDriver, FloodOfDescriptorsAndJunkDatagramsIsBounded) {
  b.reset();
  b = std::make_unique<DriverProcess>(dir, "b", layout::NotifyMode::kInterrupt);
  for (std::uint64_t id = 1; id <= 600; ++id) send_descriptors(id + 1000);
  const char junk[300] = "junk";
  for (int i = 0; i < 20; ++i) send_datagram(junk, sizeof junk, {});
  const std::array<int, 1> fd{STDERR_FILENO};
  send_datagram(junk, 32, fd);
  EXPECT_TRUE(eventually([&] {
    return status(2).datagrams_bad == 21 && status(2).fds_dropped == 600;  // all, in the end
  }));
  expect_alive();
}

TEST_F(HostileDriver, DatagramsOfOtherUsersDoNotCount) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  ASSERT_EQ(0, ::chmod((dir + "/b.peer").c_str(), 0666));  // the first barrier, taken away
  ASSERT_EQ(0, ::chmod(base.c_str(), 0755));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::setresuid(65534, 65534, 65534) == 0) send_descriptors(1);
    ::_exit(0);
  }
  ASSERT_EQ(child, ::waitpid(child, nullptr, 0));
  EXPECT_EQ(number(Reason::kRefused), answer_to(request(1)));
  EXPECT_EQ(1u, status(2).datagrams_bad);
}

}  // namespace
}  // namespace shunt::driver
