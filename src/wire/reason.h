// Why a connection (or a listener) is on kernel TCP.
#pragma once

#include <cstdint>

namespace shunt::wire {

inline constexpr std::uint32_t kReasonCount = 32;  // room to grow; every number on a wire is below

// Append only; the numbers are in status pages and messages.
enum class Reason : std::uint32_t {
  kNone = 0,            // via shared memory
  kNoListener = 1,      // no listener under Shunt at that address
  kNotInWindow = 2,     // address neither of this partition nor of the window
  kDriverDown = 3,      // no driver, or it died or did not answer in time
  kPeerDriverDown = 4,  // the other partition's driver is down
  kUnsupportedOption = 5,
  kUnsupportedCall = 6,
  kUntrustedListener = 7,  // the rendezvous is not owned by the owner of the TCP listener
  kBacklogFull = 8,
  kNoMemory = 9,       // memfd, mapping or descriptor limit
  kRefused = 10,       // the other side refused (version, validation)
  kOrdinaryPeer = 11,  // an ordinary TCP client connected to our listener
  kNameTaken = 12,     // the rendezvous name is held by somebody else
  kReusePort = 13,     // listener with SO_REUSEPORT
  kBadSource = 14,     // source address not one of the partition's
  kVersion = 15,
  kPassedOn = 16,    // downgraded: handed on by exec or SCM_RIGHTS
  kNotAllowed = 17,  // the driver's policy: not this user
};

// One line for a person, e.g. "no listener under Shunt". "unknown reason" for other numbers.
const char* reason_text(std::uint32_t reason);

}  // namespace shunt::wire
