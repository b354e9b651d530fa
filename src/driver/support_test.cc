#include "driver/support_test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "window/address.h"
#include "window/device_format.h"
#include "window/manage.h"
#include "window/runtime_directory.h"
#include "window/table_file.h"
#include "wire/partition_table.h"
#include "wire/rendezvous_name.h"

namespace shunt::driver {
namespace {

using window::UniqueFd;

constexpr int kPatienceMs = 20000;

void limit_waiting(int socket) {
  const timeval limit{kPatienceMs / 1000, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

bool wait_readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, kPatienceMs) == 1;
}

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};
Pipe make_pipe() {
  int fds[2];
  EXPECT_EQ(0, ::pipe2(fds, O_CLOEXEC));
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

// Runs shuntd with `fd` of ours as its descriptor `as`.
pid_t spawn(const std::vector<std::string>& arguments, int fd, int as) {
  std::vector<char*> argv{const_cast<char*>(SHUNTD_PATH)};
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, fd, as);
  pid_t pid = -1;
  if (::posix_spawn(&pid, SHUNTD_PATH, &actions, nullptr, argv.data(), environ) != 0) pid = -1;
  ::posix_spawn_file_actions_destroy(&actions);
  return pid;
}

}  // namespace

wire::Endpoint endpoint(const char* address, std::uint16_t port) {
  wire::Endpoint e = window::parse_address(address).value();
  e.port = port;
  return e;
}

bool eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

DriverProcess::DriverProcess(const std::string& window, const std::string& partition,
                             layout::NotifyMode notify, const std::vector<std::string>& more) {
  Pipe ready = make_pipe();
  const char* mode = notify == layout::NotifyMode::kPoll ? "poll" : "interrupt";
  std::vector<std::string> arguments{"--window",   window, "--partition", partition,
                                     "--notify",   mode,   "--log-level", "error",
                                     "--ready-fd", "9"};
  if (std::find(more.begin(), more.end(), "--dead-after") == more.end()) {
    arguments.insert(arguments.end(), {"--dead-after", "15000"});  // the machine may be busy
  }
  arguments.insert(arguments.end(), more.begin(), more.end());
  const pid_t pid = spawn(arguments, ready.write_end.get(), 9);
  ready.write_end.reset();
  char line[16];
  pid_ = pid;
  if (wait_readable(ready.read_end.get()) && ::read(ready.read_end.get(), line, sizeof line) == 6) {
    return;
  }
  kill_hard();
  ADD_FAILURE() << "shuntd did not become ready";
}

DriverProcess::~DriverProcess() {
  if (pid_ > 0) kill_hard();
}

void DriverProcess::signal(int number) const { ASSERT_EQ(0, ::kill(pid_, number)); }

int DriverProcess::wait() {
  int status = -1;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

int DriverProcess::stop() {
  signal(SIGTERM);
  return wait();
}

void DriverProcess::kill_hard() {
  signal(SIGKILL);
  wait();
}

Outcome run_shuntd(const std::vector<std::string>& arguments) {
  Pipe errors = make_pipe();
  const pid_t pid = spawn(arguments, errors.write_end.get(), STDERR_FILENO);
  errors.write_end.reset();
  Outcome outcome{-1, {}};
  char buffer[1024];
  ssize_t n;
  while ((n = ::read(errors.read_end.get(), buffer, sizeof buffer)) > 0) {
    outcome.errors.append(buffer, static_cast<std::size_t>(n));
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  return outcome;
}

UniqueFd tcp_socket(const char* address) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (address == nullptr) return socket;
  sockaddr_storage storage;
  const socklen_t length = wire::to_sockaddr(endpoint(address, 0), AF_INET, &storage);
  EXPECT_EQ(0, ::bind(socket.get(), reinterpret_cast<sockaddr*>(&storage), length)) << address;
  return socket;
}

std::uint16_t port_of(int socket) {
  sockaddr_in in{};
  socklen_t length = sizeof in;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&in), &length);
  return ntohs(in.sin_port);
}

FakeArea::FakeArea(int fd, const wire::Location& where) {
  void* memory = ::mmap(nullptr, where.length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                        static_cast<off_t>(where.offset));
  EXPECT_NE(MAP_FAILED, memory) << std::strerror(errno);
  if (memory == MAP_FAILED) return;
  area_ = static_cast<layout::Area*>(memory);
  bytes_ = where.length;
}

FakeArea::FakeArea(FakeArea&& other) noexcept
    : area_(std::exchange(other.area_, nullptr)), bytes_(other.bytes_) {}

FakeArea& FakeArea::operator=(FakeArea&& other) noexcept {
  std::swap(area_, other.area_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

FakeArea::~FakeArea() {
  if (area_ != nullptr) ::munmap(area_, bytes_);
}

BellNews read_bell(int bell, const std::function<bool(const BellNews&)>& enough) {
  BellNews news;
  wire::MessageBytes bytes;
  while (!enough(news)) {
    if (!wait_readable(bell)) {
      ADD_FAILURE() << "the bell stays silent";
      return news;
    }
    std::uint8_t first;
    const ssize_t n = ::recv(bell, &first, 1, MSG_PEEK);
    if (n <= 0) {
      news.ended = true;
      return news;
    }
    if (first == wire::kRing) {
      EXPECT_EQ(1, ::recv(bell, &first, 1, 0));
      ++news.rings;
      continue;
    }
    EXPECT_EQ(0, news.rings) << "a message behind rings";
    Received received = receive_with_fds(bell, bytes);
    const auto message = wire::decode(bytes.data(), received.size);
    EXPECT_TRUE(message.ok());
    if (!message.ok()) return news;
    news.message = message.value();
    if (received.fds.size() == 1) {
      news.area = FakeArea(received.fds[0].get(), message.value().area);
    }
  }
  return news;
}

void ring_bell(int bell) { EXPECT_EQ(1, ::send(bell, "", 1, MSG_NOSIGNAL)); }

FakeProgram::FakeProgram(const std::string& dir, const std::string& partition)
    : socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)),
      reserved(tcp_socket(partition == "a"   ? kAddressA
                          : partition == "b" ? kAddressB
                                             : kAddressC)),
      on_device_(std::filesystem::exists(dir + "/device")) {
  if (!on_device_) area.reset(::memfd_create("area", MFD_CLOEXEC));
  int fds[2];
  EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
  bell.reset(fds[0]);
  far_bell.reset(fds[1]);
  limit_waiting(bell.get());
  limit_waiting(socket.get());
  const auto name = wire::window_socket(dir, partition, wire::kDriverSuffix);
  const auto* address = reinterpret_cast<const sockaddr*>(&name.value());
  if (::connect(socket.get(), address, sizeof name.value()) != 0) socket.reset();
}

wire::Message FakeProgram::request(const wire::Endpoint& destination) const {
  wire::Message m;
  m.destination = destination;
  m.source = endpoint("10.9.9.9", 9);  // a lie; the driver stamps the truth
  if (on_device_) return m;
  m.generation = 5;
  m.area = {wire::kObjectDescriptor, 0, 4096};
  return m;
}

void FakeProgram::send(const wire::Message& message) {
  const std::array<int, 3> fds{area.get(), reserved.get(), far_bell.get()};
  const int error = send_with_fds(socket.get(), wire::encode(message),
                                  std::span(fds).subspan(on_device_ ? 1 : 0));
  // EPIPE: the driver has refused already; the verdict is still there to read.
  EXPECT_TRUE(error == 0 || error == EPIPE) << error;
  far_bell.reset();
}

std::optional<wire::Message> FakeProgram::verdict() {
  wire::MessageBytes bytes;
  if (!wait_readable(socket.get())) return std::nullopt;
  const Received received = receive_with_fds(socket.get(), bytes);
  if (received.error != 0 || received.size == 0) return std::nullopt;
  const auto message = wire::decode(bytes.data(), received.size);
  if (!message.ok()) return std::nullopt;
  if (on_device_ && message.value().type == wire::MessageType::kStatus) {
    EXPECT_EQ(1u, received.fds.size());
    EXPECT_EQ(wire::kObjectWindow, message.value().area.object);
    if (received.fds.size() != 1) return std::nullopt;
    own = FakeArea(received.fds[0].get(), message.value().area);
  }
  return message.value();
}

std::uint32_t FakeProgram::ask(const wire::Endpoint& destination) {
  if (!socket) return ~0u;
  send(request(destination));
  const auto answer = verdict();
  if (!answer) return ~0u;
  const bool queued = answer->type == wire::MessageType::kStatus;
  EXPECT_EQ(queued, answer->reason == kQueued);
  return answer->reason;
}

UniqueFd listen_at_rendezvous(const wire::Endpoint& address, int backlog) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const wire::UnixName name = wire::rendezvous_name(address, false);
  EXPECT_EQ(0, ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name.address), name.length));
  EXPECT_EQ(0, ::listen(socket.get(), backlog));
  return socket;
}

FakeListener::FakeListener(const char* at, int backlog) : tcp(tcp_socket(at)) {
  EXPECT_EQ(0, ::listen(tcp.get(), 8));
  address = endpoint(at, port_of(tcp.get()));
  rendezvous = listen_at_rendezvous(address, backlog);
}

FakeListener::Arrived FakeListener::accept() {
  Arrived arrived;
  if (!wait_readable(rendezvous.get())) {
    ADD_FAILURE() << "nothing arrived at the listener";
    return arrived;
  }
  arrived.rendezvous.reset(::accept4(rendezvous.get(), nullptr, nullptr, SOCK_CLOEXEC));
  wait_readable(arrived.rendezvous.get());
  wire::MessageBytes bytes;
  Received received = receive_with_fds(arrived.rendezvous.get(), bytes);
  const auto message = wire::decode(bytes.data(), received.size);
  EXPECT_TRUE(message.ok());
  if (message.ok()) arrived.connect = message.value();
  for (StrangerFd& fd : received.fds) arrived.fds.emplace_back(fd.release());
  return arrived;
}

FakeArea FakeListener::Arrived::own() const { return FakeArea(fds.at(0).get(), connect.own); }
FakeArea FakeListener::Arrived::peer() const { return FakeArea(fds.at(0).get(), connect.area); }

void accept_on_bell(const FakeListener::Arrived& arrived) {
  wire::Message connected;
  connected.type = wire::MessageType::kConnected;
  connected.generation = arrived.connect.own_generation;
  connected.area = arrived.connect.own;
  send_message(arrived.bell(), connected);
}

void expect_joined(FakeProgram& program, FakeListener::Arrived& arrived) {
  ASSERT_EQ(2u, arrived.fds.size());
  if (!program.own.get()) {  // the bells are the two ends of one socket pair
    ASSERT_EQ(5, ::write(program.bell.get(), "hello", 5));
    EXPECT_EQ("hello", read_bytes(arrived.bell(), 5));
    return;
  }
  accept_on_bell(arrived);
  const FakeArea own = arrived.own();
  const FakeArea peer = arrived.peer();
  const BellNews news =
      read_bell(program.bell.get(), [](const BellNews& n) { return n.message.has_value(); });
  ASSERT_NE(nullptr, news.area.get());
  EXPECT_EQ(wire::MessageType::kConnected, news.message->type);
  EXPECT_EQ(arrived.connect.own_generation, news.message->generation);
  program.own->tail.tail.store(11);
  EXPECT_EQ(11u, peer->tail.tail.load());
  own->tail.tail.store(12);
  EXPECT_EQ(12u, news.area->tail.tail.load());
  const auto rung = [](const BellNews& n) { return n.rings > 0; };
  EXPECT_EQ(1, read_bell(arrived.bell(), rung).rings) << "the ring behind CONNECTED";
  ring_bell(program.bell.get());
  EXPECT_EQ(1, read_bell(arrived.bell(), rung).rings);
  ring_bell(arrived.bell());
  EXPECT_EQ(1, read_bell(program.bell.get(), rung).rings);
}

void send_message(int socket, const wire::Message& message) {
  EXPECT_EQ(0, send_with_fds(socket, wire::encode(message), {}));
}

std::string read_bytes(int socket, std::size_t size) {
  std::string out(size, '\0');
  const ssize_t n = ::recv(socket, out.data(), size, MSG_WAITALL);
  out.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return out;
}

void WindowFixture::make_window(Kind kind, std::uint32_t areas, std::uint64_t section_bytes) {
  char pattern[] = "/tmp/shunt-driver-XXXXXX";
  ASSERT_NE(nullptr, ::mkdtemp(pattern));
  base = pattern;
  spec = dir = base + "/w";
  const wire::PartitionTable table = window::plan_table(
      {{"a", {kAddressA}}, {"b", {kAddressB}}, {"c", {kAddressC}}}, std::nullopt);
  if (kind == Kind::kDirectory) {
    window::create_window(dir, table);
    return;
  }
  window::DevicePlan plan;
  plan.table = table;
  plan.table.section_bytes = section_bytes;
  plan.granule = layout::kGranuleMin;
  const std::uint64_t section =
      section_bytes + areas * layout::round_up_to(layout::kAreaBytes, plan.granule);
  spec = base + "/w.img";
  { std::ofstream(spec).flush(); }
  std::filesystem::resize_file(spec, layout::kDeviceHeadBytes + table.count * section);
  window::create_device_window(spec, plan, false);
  ::setenv("SHUNT_RUNTIME_DIR", base.c_str(), 1);
  dir = window::runtime_directory(spec);
}

void WindowFixture::TearDown() {
  ::unsetenv("SHUNT_RUNTIME_DIR");
  std::filesystem::remove_all(base);
}

window::PartitionStatus WindowFixture::status(std::uint32_t number) const {
  return window::read_status(spec).partitions.at(number - 1);
}

const window::PeerStatus& WindowFixture::peer_status(const window::PartitionStatus& of,
                                                     const std::string& name) const {
  for (const window::PeerStatus& p : of.peers) {
    if (p.partition == name) return p;
  }
  throw std::out_of_range(name);
}

bool WindowFixture::exists(const std::string& file) const {
  return std::filesystem::exists(dir + "/" + file);
}

std::string setting_name(const ::testing::TestParamInfo<Setting>& info) {
  const std::string notify = info.param.notify == layout::NotifyMode::kPoll ? "poll" : "interrupt";
  return (info.param.kind == Kind::kDevice ? "device_" : "directory_") + notify;
}

}  // namespace shunt::driver
