// Reproducible bytes: pattern N is one endless stream, so parts of it follow each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace shunt::test {

class Pattern {
 public:
  explicit Pattern(std::uint64_t seed, std::size_t skip = 0)
      : state_(seed * 0x9e3779b97f4a7c15U + 1) {
    while (skip-- > 0) next();
  }
  char next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<char>(state_ >> 32);
  }

 private:
  std::uint64_t state_;
};

// `size` bytes of pattern `seed`, from byte `from` on.
inline std::string pattern(std::size_t size, std::uint64_t seed = 1, std::size_t from = 0) {
  std::string data(size, '\0');
  Pattern bytes(seed, from);
  for (char& c : data) c = bytes.next();
  return data;
}

}  // namespace shunt::test
