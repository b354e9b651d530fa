// A connection of which one end, or both, leaks to the programs that this process starts.
#pragma once

#include <gtest/gtest.h>
#include <spawn.h>

#include "inherit.h"

namespace shunt::test {

// Starts a program that ends at once; its exit status.
inline int run_true() {
  char name[] = "/bin/true";
  char* argv[] = {name, nullptr};
  pid_t pid = -1;
  int status = -1;
  if (posix_spawn(&pid, name, nullptr, nullptr, argv, environ) != 0) return -1;
  waitpid(pid, &status, 0);
  return status;
}

enum class Leaks { kConnecting, kAccepting, kBoth };

class InheritLeak : public ::testing::TestWithParam<Leaks> {
 protected:
  InheritLeak() : pair(connected_pair()) {
    set_cloexec(pair.client, GetParam() == Leaks::kAccepting);
    set_cloexec(pair.server, GetParam() == Leaks::kConnecting);
  }
  // Runs `body` for both directions.
  template <typename Body>
  void both_ways(Body body) {
    body(int{pair.client}, int{pair.server});
    body(int{pair.server}, int{pair.client});
  }
  Pair pair;
};

inline std::string leaks_name(const ::testing::TestParamInfo<Leaks>& one) {
  static constexpr const char* kNames[] = {"Connecting", "Accepting", "Both"};
  return kNames[static_cast<int>(one.param)];
}

}  // namespace shunt::test
