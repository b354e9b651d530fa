// A connection of which one end gets another program, by exec, while the peer is this process.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "inherit.h"

namespace shunt::test {

struct PeerCase {
  bool bare;
  bool accepting;  // the end that gets another program
};

class InheritPeer : public ::testing::TestWithParam<PeerCase> {
 protected:
  static Plan plan(Steps steps) {
    Plan p;
    p.bare = GetParam().bare;
    p.accepting = GetParam().accepting;
    p.steps = std::move(steps);
    return p;
  }
};

inline std::string peer_case_name(const ::testing::TestParamInfo<PeerCase>& one) {
  return std::string(one.param.bare ? "Bare" : "Provider") +
         (one.param.accepting ? "_Accepting" : "_Connecting");
}

inline const PeerCase kPeerCases[] = {{false, false}, {false, true}, {true, false}, {true, true}};

}  // namespace shunt::test
