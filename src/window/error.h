// WindowError: why a window cannot be made, opened or removed, in words for a person.
//
// The text says what failed, on which object, why, and what to do; callers print it as it is.
#pragma once

#include <stdexcept>
#include <string>

namespace shunt::window {

class WindowError : public std::runtime_error {
 public:
  explicit WindowError(const std::string& what) : std::runtime_error(what) {}
};

}  // namespace shunt::window
