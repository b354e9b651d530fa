// For tests: connections to partitions on other kernels, with a driver played by hand over a plain file.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "ring/reader.h"
#include "sockets/process/config.h"
#include "sockets/testing/test_hostile.h"

namespace shunt::sockets {

inline constexpr std::uint64_t kStride = std::uint64_t{6} << 20;
inline constexpr std::uint32_t kOwnGeneration = 11;  // of the program's area, at offset 0
inline constexpr std::uint32_t kPeerGeneration = 22;
inline constexpr wire::Location kOwn{wire::kObjectWindow, 0, kStride};
inline constexpr wire::Location kPeer{wire::kObjectWindow, kStride, kStride};
inline const wire::Endpoint kHere{AF_INET, 0, {127, 0, 1, 1}};
inline const wire::Endpoint kThere{AF_INET, 7000, {127, 0, 2, 1}};

// What every descriptor of a device that a program gets is: a description of its own.
inline int reopened(int fd) {
  return ::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC);
}

// The own partition's driver and, behind it, the other partition. The window is a file of two areas.
struct FakeRangeDriver {
  std::filesystem::path directory;
  int device = memfd_create("device", MFD_CLOEXEC);
  layout::Area* own = nullptr;
  layout::Area* peer = nullptr;
  int listening = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  int bell = -1;
  ring::WriterState writer_state{};
  ring::ReaderState reader_state{};

  FakeRangeDriver() {
    char name[] = "/tmp/shunt-relayed-XXXXXX";
    directory = ::mkdtemp(name);
    EXPECT_EQ(0, ::ftruncate(device, 2 * kStride));
    own = map(kOwn.offset);
    peer = map(kPeer.offset);
    ring::init_area(own, kOwnGeneration);
    ring::init_area(peer, kPeerGeneration);
    reader_state.generation = kOwnGeneration;
    writer().set_limit(layout::kStreamBytes);
    write_table();
    const sockaddr_un address =
        wire::window_socket(directory.c_str(), "a", wire::kDriverSuffix).value();
    EXPECT_EQ(0, ::bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address));
    EXPECT_EQ(0, ::listen(listening, 4));
    ::setenv("SHUNT_WINDOW", directory.c_str(), 1);
    ::setenv("SHUNT_PARTITION", "a", 1);
    read_config();
    EXPECT_TRUE(areas_from_driver());
  }
  ~FakeRangeDriver() {
    ::unsetenv("SHUNT_WINDOW");
    ::unsetenv("SHUNT_PARTITION");
    read_config();
    ::munmap(own, kStride);
    ::munmap(peer, kStride);
    ::close(device);
    ::close(listening);
    die();
    std::filesystem::remove_all(directory);
  }
  layout::Area* map(std::uint64_t offset) const {
    return static_cast<layout::Area*>(::mmap(nullptr, kStride, PROT_READ | PROT_WRITE, MAP_SHARED,
                                             device, static_cast<off_t>(offset)));
  }
  void write_table() const {
    wire::PartitionTable table{};
    table.count = 2;
    table.flags = wire::kTableAreasFromDriver;
    table.area_map_bytes = kStride;
    for (std::uint32_t i = 0; i < 2; ++i) {
      table.partitions[i].number = i + 1;
      table.partitions[i].name_bytes[0] = static_cast<char>('a' + i);
      table.partitions[i].address_count = 1;
      table.partitions[i].addresses[0] = i == 0 ? kHere : kThere;
      table.partitions[i].addresses[0].port = 0;
    }
    const wire::TableBytes bytes = wire::encode_table(table);
    std::ofstream(directory / wire::kTableFile, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  ring::Writer writer() { return {peer, own, &writer_state}; }
  ring::Reader reader() { return {peer, own, &reader_state}; }

  void send(int to, wire::MessageType type, const wire::Location& area, std::uint32_t generation,
            int fd) const {
    wire::Message m;
    m.type = type;
    m.area = area;
    m.generation = generation;
    const wire::MessageBytes bytes = wire::encode(m);
    EXPECT_EQ(256, sys::send_fds(to, bytes.data(), bytes.size(), &fd, fd >= 0 ? 1 : 0, 0));
  }
  // Answers one CONNECT with STATUS.
  void serve(const wire::Location& area, std::uint32_t generation, int given) {
    const int program = ::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    wire::MessageBytes bytes;
    int fds[3] = {-1, -1, -1};
    int count = 0;
    EXPECT_EQ(256, sys::recv_fds(program, bytes.data(), bytes.size(), fds, 3, &count, 0));
    EXPECT_EQ(2, count);
    const wire::Message m = wire::decode(bytes.data(), bytes.size()).value();
    EXPECT_EQ(wire::Location{}, m.area);
    EXPECT_TRUE(m.source.same_address(kHere));
    ::close(fds[0]);
    bell = fds[1];
    send(program, wire::MessageType::kStatus, area, generation, given);
    if (given >= 0) ::close(given);
    ::close(program);
  }
  void connected(const wire::Location& area = kPeer, std::uint32_t generation = kPeerGeneration) {
    const int fd = reopened(device);
    send(bell, wire::MessageType::kConnected, area, generation, fd);
    ::close(fd);
  }
  void write(std::size_t size) {
    const std::string bytes(size, 'x');
    ring::Status status;
    ring::Writer w = writer();
    EXPECT_EQ(size, w.append(reinterpret_cast<const std::uint8_t*>(bytes.data()), size, &status));
    w.publish();
  }
  void tell(std::uint32_t fate) const {
    own->fate_line.fate.store(fate);
    ::shutdown(bell, SHUT_WR);
  }
  void die() {
    if (bell >= 0) ::close(bell);
    bell = -1;
  }
};

inline sockaddr_in there() {
  sockaddr_storage address;
  wire::to_sockaddr(kThere, AF_INET, &address);
  sockaddr_in in;
  std::memcpy(&in, &address, sizeof in);
  return in;
}

}  // namespace shunt::sockets
