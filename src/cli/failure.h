// How a subcommand fails: one line that says what failed, on which object, why, and what to do.
//
// Thrown by value, caught once in main(), which prints "shunt SUBCOMMAND: " and the line.
// Exit statuses follow env(1) and timeout(1) for `shunt run`.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace shunt::cli {

inline constexpr int kStatusFailed = 1;       // a subcommand other than `run` failed
inline constexpr int kStatusUsage = 2;        // the command line is wrong
inline constexpr int kStatusRunFailed = 125;  // `shunt run` itself failed
inline constexpr int kStatusCannotRun = 126;  // the program is there, but cannot be run under Shunt
inline constexpr int kStatusNoProgram = 127;  // the program is not there

class Failure : public std::runtime_error {
 public:
  Failure(int status, std::string_view what, std::string_view object, std::string_view why,
          std::string_view remedy)
      : std::runtime_error(fmt::format("{} '{}': {}; {}", what, object, why, remedy)),
        status_(status) {}

  int status() const { return status_; }

 private:
  int status_;
};

}  // namespace shunt::cli
