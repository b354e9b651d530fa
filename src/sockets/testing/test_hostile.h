// For tests: a server and clients of the provider in one process, and a peer that speaks the set-up
// protocol by hand, with an area that it may fill with anything.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <span>
#include <string>
#include <vector>

#include "layout/status_page.h"
#include "sockets/arenas/links.h"
#include "sockets/arenas/pairs.h"
#include "sockets/arenas/places.h"
#include "sockets/holders/descriptors.h"
#include "sockets/process/status.h"
#include "sockets/setup/connect.h"
#include "sockets/setup/listener.h"
#include "sockets/stream/receive.h"
#include "sockets/stream/send.h"
#include "sockets/testing/test_connection.h"
#include "sys/kernel.h"
#include "wire/message.h"
#include "wire/rendezvous_name.h"

namespace shunt::sockets {

// A descriptor of the provider, closed as the program would.
struct End {
  int fd = -1;
  Socket* socket = nullptr;

  explicit End(int number = -1) : fd(number), socket(number >= 0 ? lookup(number) : nullptr) {}
  End(End&& o) noexcept : fd(std::exchange(o.fd, -1)), socket(o.socket) {}
  End& operator=(End&& o) noexcept {
    std::swap(fd, o.fd);
    std::swap(socket, o.socket);
    return *this;
  }
  ~End() {
    if (fd >= 0) close_descriptor(fd);
  }
  Connection* connection() const { return socket->connection; }
  bool shunted() const { return socket != nullptr && socket->kind == Kind::kConnection; }

  long receive(void* out, std::size_t size, int flags = MSG_DONTWAIT) const {
    const iovec part{out, size};
    return receive_stream(fd, socket, &part, 1, flags).value();
  }
  long send(const void* bytes, std::size_t size, int flags = MSG_DONTWAIT) const {
    const iovec part{const_cast<void*>(bytes), size};
    return send_stream(fd, socket, &part, 1, flags | MSG_NOSIGNAL).value();
  }
};

inline End tcp_socket() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  enter(fd, Kind::kTcp, AF_INET);
  return End(fd);
}

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  in.sin_port = htons(port);
  return in;
}

// A kernel TCP socket bound to an address and a free port.
inline int bound_tcp(wire::Endpoint* bound, const char* ipv4 = "127.0.0.1") {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in in = loopback(0);
  EXPECT_EQ(1, inet_pton(AF_INET, ipv4, &in.sin_addr));
  socklen_t length = sizeof in;
  EXPECT_EQ(0, ::bind(fd, reinterpret_cast<sockaddr*>(&in), length));
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&in), &length);
  *bound = wire::from_sockaddr(reinterpret_cast<sockaddr*>(&in), length).value();
  return fd;
}

inline End connect_to(const wire::Endpoint& to) {
  End client = tcp_socket();
  const sockaddr_in in = loopback(to.port);
  EXPECT_EQ(0, connect_socket(client.fd, client.socket, reinterpret_cast<const sockaddr*>(&in),
                              sizeof in));
  return client;
}

// A listener under Shunt, non-blocking.
struct Server {
  wire::Endpoint local;
  End end;

  explicit Server(const char* ipv4 = "127.0.0.1") {
    const int fd = bound_tcp(&local, ipv4);
    EXPECT_EQ(0, ::listen(fd, 1000));
    enter(fd, Kind::kTcp, AF_INET);
    end = End(fd);
    listening(fd, end.socket, 1000);
    EXPECT_EQ(Kind::kListener, end.socket->kind.load());
    set_nonblocking(fd, end.socket, true);
  }
  long accept_raw() const { return accept_socket(end.fd, end.socket, nullptr, nullptr, 0); }
  End accept() const {
    const long fd = accept_raw();
    EXPECT_GE(fd, 0);
    return End(static_cast<int>(fd));
  }
};

// What a hostile side has in hand: a good area, which it may spoil, and a bell.
// The area is a place in an arena of one, or whole, as it comes by way of the drivers.
struct Liar {
  ring::Form form;
  std::uint32_t generation = 0;
  int area_fd = -1;
  PlaceRef place;
  layout::Area* area = form == ring::Form::kPlace ? make_place() : make_area(&generation, &area_fd);
  int bell = -1;
  ring::WriterState state{};
  ring::Writer writer;

  explicit Liar(ring::Form of = ring::Form::kPlace)
      : form(of),
        writer(of == ring::Form::kPlace ? ring::OwnArea{area, own_segments(place)} : area, nullptr,
               &state) {
    writer.set_limit(layout::kStreamBytes);
  }
  Liar(const Liar&) = delete;
  Liar& operator=(const Liar&) = delete;
  ~Liar() {
    if (form == ring::Form::kPlace) {
      const ArenasLocked locked;
      let_go({.own = place, .peer = {}, .last = true});
    } else {
      unmap_area(area);
    }
    if (area_fd >= 0) ::close(area_fd);
    if (bell >= 0) ::close(bell);
  }
  layout::Area* make_place() {
    const ArenasLocked locked;
    Arena* arena = make_arena(1);
    EXPECT_TRUE(take_any(arena, &place, &generation));
    drop(arena);  // the place holds it
    area_fd = ::fcntl(arena->fd, F_DUPFD_CLOEXEC, 3);
    return own_control(place);
  }
  // All that it writes and the victim reads.
  std::span<std::uint8_t> memory() const {
    if (form == ring::Form::kWhole)
      return {reinterpret_cast<std::uint8_t*>(area), layout::kAreaBytes};
    return {reinterpret_cast<std::uint8_t*>(place.arena->own), place.arena->shape.bytes()};
  }
  void write(std::size_t size) {
    const std::string bytes(size, 'x');
    ring::Status status;
    for (std::size_t done = 0; done < size;) {
      done += writer.append(reinterpret_cast<const std::uint8_t*>(bytes.data()) + done, size - done,
                            &status);
    }
    writer.publish();
  }
  void ring() const {
    const char zero = 0;
    EXPECT_EQ(1, ::send(bell, &zero, 1, MSG_NOSIGNAL));
  }
  // Connects to the rendezvous and says nothing.
  void reach(const Server& server) {
    const wire::UnixName name = wire::rendezvous_name(server.local, false);
    bell = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(0, ::connect(bell, reinterpret_cast<const sockaddr*>(&name.address), name.length));
  }
  wire::Message connect_message(const wire::Endpoint& to) const {
    wire::Message m;
    m.type = wire::MessageType::kConnect;
    m.generation = generation;
    m.destination = to;
    name_area(&m);
    return m;
  }
  void name_area(wire::Message* m) const {
    if (form == ring::Form::kPlace) {
      m->area = {wire::kObjectPlace, place.index, place.arena->shape.places};
      m->arena = place.arena->id;
    } else {
      m->area = {wire::kObjectDescriptor, 0, layout::kAreaBytes};
    }
  }
  void send_connect(const Server& server) const {
    wire::Endpoint source;
    const int tcp = bound_tcp(&source);
    const wire::MessageBytes bytes = wire::encode(connect_message(server.local));
    const int fds[2] = {area_fd, tcp};
    EXPECT_EQ(256, sys::send_fds(bell, bytes.data(), bytes.size(), fds, 2, 0));
    ::close(tcp);
  }
  // True once the other side has closed the bell, whatever it sent before.
  bool hung_up() const {
    pollfd p{bell, POLLIN, 0};
    char bytes[512];
    for (int i = 0; i < 100; ++i) {
      if (::poll(&p, 1, 2000) != 1) return false;
      if (::recv(bell, bytes, sizeof bytes, MSG_DONTWAIT) <= 0) return true;
    }
    return false;
  }
};

// A listener's side by hand: a kernel listener, and the rendezvous bound beside it.
struct HostileListener {
  wire::Endpoint local;
  int tcp = bound_tcp(&local);
  int rendezvous = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  HostileListener() {
    const wire::UnixName name = wire::rendezvous_name(local, false);
    EXPECT_EQ(0, ::listen(tcp, 10));
    EXPECT_EQ(0, ::bind(rendezvous, reinterpret_cast<const sockaddr*>(&name.address), name.length));
    EXPECT_EQ(0, ::listen(rendezvous, 10));
  }
  ~HostileListener() {
    ::close(tcp);
    ::close(rendezvous);
  }
  // Takes the victim's CONNECT; its descriptors are of no interest.
  void take(Liar& liar) const {
    liar.bell = ::accept4(rendezvous, nullptr, nullptr, SOCK_CLOEXEC);
    char bytes[256];
    ASSERT_EQ(256, ::recv(liar.bell, bytes, sizeof bytes, 0));
  }
};

inline wire::Message connected_message(const Liar& liar) {
  wire::Message m;
  m.type = wire::MessageType::kConnected;
  m.generation = liar.generation;
  liar.name_area(&m);
  return m;
}

inline void answer(const Liar& liar, const wire::Message& m, int area_fd) {
  const wire::MessageBytes bytes = wire::encode(m);
  EXPECT_EQ(256, sys::send_fds(liar.bell, bytes.data(), bytes.size(), &area_fd, 1, 0));
}

// Bytes both ways over a connection that must be in perfect health.
inline void expect_healthy(const End& a, const End& b, std::size_t size = 100'000) {
  ASSERT_TRUE(a.shunted() && b.shunted());
  for (const auto& [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
    std::string sent(size, '\0');
    for (std::size_t i = 0; i < size; ++i) sent[i] = static_cast<char>(i * 2654435761u >> 13);
    std::string got(size, '\0');
    ASSERT_EQ(static_cast<long>(size), from->send(sent.data(), size, 0));
    ASSERT_EQ(static_cast<long>(size), to->receive(got.data(), size, MSG_WAITALL));
    ASSERT_TRUE(sent == got);
  }
}

// An honest connection beside the attacked one.
struct Neighbour {
  End client;
  End accepted;

  explicit Neighbour(const Server& server)
      : client(connect_to(server.local)), accepted(server.accept()) {}
  void expect_unharmed() const { expect_healthy(client, accepted); }
};

// How many resets the status page shows: through the descriptor, as `shunt status` sees it.
inline std::uint64_t untrusted_resets() {
  static const layout::StatusPage* page = [] {
    start_status();
    void* at = MAP_FAILED;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      if (std::filesystem::read_symlink(entry.path(), error) != "/memfd:shunt-status (deleted)") {
        continue;
      }
      const int fd = std::stoi(entry.path().filename());
      at = mmap(nullptr, sizeof(layout::StatusPage), PROT_READ, MAP_SHARED, fd, 0);
    }
    return static_cast<const layout::StatusPage*>(at);
  }();
  return page->resets_untrusted.load();
}

// What a process could leak: descriptors and mapped areas. Arenas that are kept for the next connection are given up
// first, so what is counted is in use.
struct Holdings {
  std::size_t descriptors = 0;
  std::size_t areas = 0;
  bool operator==(const Holdings&) const = default;

  static Holdings now() {
    Holdings h;
    {
      const ArenasLocked locked;
      drop_links();
      drop_pairs();
    }
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      h.descriptors += !entry.path().empty();
    }
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      h.areas += line.find("/memfd:shunt-are") != std::string::npos;  // areas and arenas
    }
    return h;
  }
};
inline void PrintTo(const Holdings& h, std::ostream* out) {
  *out << h.descriptors << " descriptors, " << h.areas << " areas";
}

// Runs `call` in a thread and fails, instead of hanging, when it does not return.
template <typename Call>
long within_seconds(int seconds, std::future<long>& result, Call rescue) {
  if (result.wait_for(std::chrono::seconds(seconds)) == std::future_status::ready) {
    return result.get();
  }
  ADD_FAILURE() << "the call hangs";
  rescue();
  return result.get();
}

// CPU time that `call` takes in this thread, in milliseconds.
template <typename Call>
long cpu_ms(Call call) {
  const auto now = [] {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1'000'000;
  };
  const long before = now();
  call();
  return now() - before;
}

}  // namespace shunt::sockets
