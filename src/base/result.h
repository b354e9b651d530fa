// Result<T>: a value or an errno, for code that runs inside other people's programs and so never
// throws. C++20 has no std::expected.
//
// Thread safety: as T. Invariant: exactly one of value and error is meaningful; error() is a
// positive errno when !ok().
#pragma once

#include <cassert>
#include <cstdlib>
#include <utility>

namespace shunt {

struct Error {
  int code;  // positive errno
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)), error_(0) {}  // NOLINT(google-explicit-constructor)
  Result(Error e) : value_(), error_(e.code) {}             // NOLINT(google-explicit-constructor)

  bool ok() const { return error_ == 0; }
  explicit operator bool() const { return ok(); }
  int error() const { return error_; }
  T& value() {
    assert(ok());
    return value_;
  }
  const T& value() const {
    assert(ok());
    return value_;
  }
  T take() {
    assert(ok());
    return std::move(value_);
  }

 private:
  T value_;
  int error_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() : error_(0) {}
  Result(Error e) : error_(e.code) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return error_ == 0; }
  explicit operator bool() const { return ok(); }
  int error() const { return error_; }

 private:
  int error_;
};

}  // namespace shunt
