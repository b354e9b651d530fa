// What the fuzzing harnesses share: the input as values, the check that ends the run, marks, seeds.
//
// A harness is one file NAME_fuzz.cc. It defines LLVMFuzzerTestOneInput (libFuzzer calls it with one input after
// another) and fuzz::seeds(), and declares a Mark for each place that a useful run must come to. harness.cc does
// the rest: with `--seeds DIR` as first arguments the program writes its seeds there and ends; otherwise it runs,
// and tells at its end how often each mark was reached (harness.py fails a run that missed one).
//
// Thread safety: none; libFuzzer calls from one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shunt::fuzz {

using Bytes = std::vector<std::uint8_t>;

// Ends the process with `what` unless `holds`: libFuzzer then keeps the input.
void require(bool holds, const char* what);

// A place that is reached by what the harness is about, and not by noise. Objects live as long as the process.
class Mark {
 public:
  explicit Mark(const char* name);
  void reached() { ++count_; }

 private:
  friend void report_marks();
  const char* name_;
  Mark* next_;
  std::uint64_t count_ = 0;
};

// Inputs from which every mark is reached; the harness's own.
std::vector<Bytes> seeds();

// The input, taken from the front; zeros when it is used up.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T take() {  // little-endian
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{byte()} << (8 * i);
    return static_cast<T>(value);
  }
  std::uint32_t below(std::uint32_t limit) { return byte() % limit; }  // limit <= 256
  bool flip() { return (byte() & 1) != 0; }

  // A number of any size, often one that decides something: small, a page or a segment more, all bits.
  std::uint64_t number();

  // Takes what is there of `size` bytes to `out`; the rest of `out` stays as it is.
  void overlay(std::uint8_t* out, std::size_t size) {
    for (std::size_t i = 0; i < size && left_ != 0; ++i) out[i] = byte();
  }
  Bytes rest() {
    Bytes bytes(at_, at_ + left_);
    left_ = 0;
    return bytes;
  }

 private:
  std::uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *at_++;
  }

  const std::uint8_t* at_;
  std::size_t left_;
};

}  // namespace shunt::fuzz
