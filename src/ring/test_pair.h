// For the tests of this folder: two areas in one process, their two ends, and a stream of bytes that
// can be checked at any position without keeping it.
//
// Thread safety: as the ring itself; each End belongs to one thread.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "layout/area.h"
#include "ring/reader.h"
#include "ring/writer.h"

namespace shunt::ring::test {

// One area between two inaccessible pages, so that any access out of bounds faults. `peer` is a
// second, read-only mapping, as in a real peer, or the same address where a sanitizer has to see that
// both are one place.
class AreaMemory {
 public:
  enum class Peer { kReadOnlyMapping, kSameAddress };

  explicit AreaMemory(Peer peer) {
    const int fd = memfd_create("ring-test", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, layout::kAreaBytes) != 0) abort();
    own_ = static_cast<std::uint8_t*>(map_guarded(fd, PROT_READ | PROT_WRITE));
    peer_ =
        peer == Peer::kSameAddress ? own_ : static_cast<std::uint8_t*>(map_guarded(fd, PROT_READ));
    close(fd);
  }
  AreaMemory(const AreaMemory&) = delete;
  AreaMemory& operator=(const AreaMemory&) = delete;
  ~AreaMemory() {
    if (peer_ != own_) munmap(peer_ - kGuard, layout::kAreaBytes + 2 * kGuard);
    munmap(own_ - kGuard, layout::kAreaBytes + 2 * kGuard);
  }

  layout::Area* own() { return reinterpret_cast<layout::Area*>(own_); }
  const layout::Area* peer() const { return reinterpret_cast<const layout::Area*>(peer_); }
  std::uint8_t* bytes() { return own_; }

 private:
  static constexpr std::size_t kGuard = 4096;

  static void* map_guarded(int fd, int protection) {
    void* at = mmap(nullptr, layout::kAreaBytes + 2 * kGuard, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) abort();
    void* inside = static_cast<std::uint8_t*>(at) + kGuard;
    if (mmap(inside, layout::kAreaBytes, protection, MAP_SHARED | MAP_FIXED, fd, 0) != inside) {
      abort();
    }
    return inside;
  }

  std::uint8_t* own_;
  std::uint8_t* peer_;
};

// One end of a connection: its area and its private positions.
struct End {
  AreaMemory memory;
  WriterState writer_state{};
  ReaderState reader_state{};

  explicit End(AreaMemory::Peer peer) : memory(peer) {}
};

struct Pair {
  static constexpr std::uint32_t kGenerationA = 0xaaaa5555;
  static constexpr std::uint32_t kGenerationB = 0xbbbb6666;
  End a;
  End b;

  // Both streams begin at position `start`, as if that much had been written and read before.
  explicit Pair(std::uint64_t limit = layout::kStreamBytes, std::uint64_t start = 0,
                AreaMemory::Peer peer = AreaMemory::Peer::kReadOnlyMapping)
      : a(peer), b(peer) {
    prepare(a, kGenerationA, kGenerationB, limit, start);
    prepare(b, kGenerationB, kGenerationA, limit, start);
  }

  Writer writer_a() { return {a.memory.own(), b.memory.peer(), &a.writer_state}; }
  Writer writer_b() { return {b.memory.own(), a.memory.peer(), &b.writer_state}; }
  Reader reader_a() { return {a.memory.own(), b.memory.peer(), &a.reader_state}; }
  Reader reader_b() { return {b.memory.own(), a.memory.peer(), &b.reader_state}; }

 private:
  static void prepare(End& end, std::uint32_t own, std::uint32_t peer, std::uint64_t limit,
                      std::uint64_t start) {
    layout::Area* area = end.memory.own();
    init_area(area, own);
    area->hot.head.store(start);
    area->hot.tail_echo.store(start);
    area->tail.tail.store(start);
    end.writer_state.head = end.writer_state.published = end.writer_state.tail = start;
    end.reader_state.head = end.reader_state.tail = end.reader_state.looked = start;
    end.reader_state.generation = peer;
    Writer(area, nullptr, &end.writer_state).set_limit(limit);
  }
};

// The test stream: the byte at each position is a function of the position and a seed.
class Pattern {
 public:
  explicit Pattern(std::uint64_t seed) : seed_(seed) {}

  void fill(std::uint64_t position, std::uint8_t* out, std::size_t size) const {
    std::size_t at = 0;
    while (at < size) {
      const std::uint64_t word = word_at((position + at) / 8);
      const std::size_t skip = (position + at) % 8;
      const std::size_t n = size - at < 8 - skip ? size - at : 8 - skip;
      std::memcpy(out + at, reinterpret_cast<const std::uint8_t*>(&word) + skip, n);
      at += n;
    }
  }
  bool matches(std::uint64_t position, const std::uint8_t* data, std::size_t size) {
    expected_.resize(size);
    fill(position, expected_.data(), size);
    return size == 0 || std::memcmp(expected_.data(), data, size) == 0;
  }

 private:
  std::uint64_t word_at(std::uint64_t index) const {  // splitmix64
    std::uint64_t z = seed_ + (index + 1) * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::uint64_t seed_;
  std::vector<std::uint8_t> expected_;
};

// Sizes around what the ring treats specially: inline messages, segment ends, several segments.
inline std::size_t interesting_size(std::mt19937_64& random) {
  static constexpr std::size_t kSizes[] = {1,    7,     8,     9,     87,     88,     89,
                                           4096, 65535, 65536, 65537, 131071, 131072, 131073};
  switch (random() % 4) {
    case 0:
      return kSizes[random() % (sizeof kSizes / sizeof kSizes[0])];
    case 1:
      return 1 + random() % 100;
    case 2:
      return 1 + random() % 20000;
    default:
      return 1 + random() % 200000;
  }
}

// Appends what fits of `size` bytes of the pattern at the writer's head and publishes it.
inline std::size_t send(Writer& writer, const WriterState& state, const Pattern& pattern,
                        std::size_t size, Status* status) {
  std::vector<std::uint8_t> data(size);
  pattern.fill(state.head, data.data(), size);
  std::size_t done = 0;
  *status = Status::kOk;
  while (done < size) {
    const std::size_t n = writer.append(data.data() + done, size - done, status);
    if (n == 0) break;
    done += n;
  }
  writer.publish();
  return done;
}

}  // namespace shunt::ring::test
