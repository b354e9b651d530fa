// A reproducible stream of bytes, random sizes, and a hash that does not depend on how the stream is
// cut into pieces. Pure and fast (above 2 GB/s each): the sockets under test shall be the slow part.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace shunt::test {

inline std::uint64_t mix64(std::uint64_t x) {  // splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix64(seed + 0x9e3779b97f4a7c15U)) {}
  std::uint64_t next() { return mix64(state_ += 0x9e3779b97f4a7c15U); }
  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }

  // 1..max, every order of magnitude equally likely.
  std::size_t size(std::size_t max) {
    const auto bits = static_cast<unsigned>(std::bit_width(max));
    const std::uint64_t top = std::uint64_t{1} << (1 + below(bits));
    const std::uint64_t n = top / 2 + below(top / 2 + 1);
    return n < 1 ? 1 : (n > max ? max : n);
  }

 private:
  std::uint64_t state_;
};

// The bytes of stream `seed`, handed out in pieces of any size.
class Stream {
 public:
  static constexpr std::size_t kPieceMax = 1 << 20;

  explicit Stream(std::uint64_t seed) : counter_(mix64(seed)), buffer_(2 * kPieceMax) {}

  // At least `size` (at most kPieceMax) bytes at the current position; valid until the next call.
  const std::uint8_t* peek(std::size_t size) {
    if (end_ - begin_ < size) refill();
    return buffer_.data() + begin_;
  }
  void advance(std::size_t size) { begin_ += size; }

 private:
  void refill() {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    for (; end_ + 8 <= buffer_.size(); end_ += 8) {
      const std::uint64_t word = mix64(counter_ += 0x9e3779b97f4a7c15U);
      std::memcpy(buffer_.data() + end_, &word, 8);
    }
  }

  std::uint64_t counter_;
  std::vector<std::uint8_t> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

class StreamHash {
 public:
  void update(const void* data, std::size_t size) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    bytes_ += size;
    while (size > 0 && pending_ > 0) {
      take_byte(*p++);
      --size;
    }
    for (; size >= 8; size -= 8, p += 8) {
      std::uint64_t word;
      std::memcpy(&word, p, 8);
      mix(word);
    }
    for (; size > 0; --size) take_byte(*p++);
  }
  std::uint64_t value() const { return mix64(hash_ ^ mix64(word_ + pending_) ^ bytes_); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void take_byte(std::uint8_t byte) {
    word_ |= std::uint64_t{byte} << (8 * pending_);
    if (++pending_ < 8) return;
    mix(word_);
    word_ = 0;
    pending_ = 0;
  }
  void mix(std::uint64_t word) { hash_ = std::rotl((hash_ ^ word) * 0x9fb21c651e98df25U, 29); }

  std::uint64_t hash_ = 0x2545f4914f6cdd1dU;
  std::uint64_t word_ = 0;
  unsigned pending_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace shunt::test
