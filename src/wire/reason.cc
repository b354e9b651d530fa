#include "wire/reason.h"

#include <iterator>

namespace shunt::wire {

const char* reason_text(std::uint32_t reason) {
  static constexpr const char* kTexts[] = {
      "via shared memory",
      "no listener under Shunt",
      "address not in the window",
      "driver down",
      "driver of the other partition down",
      "unsupported option",
      "unsupported call",
      "rendezvous not owned by the owner of the TCP listener",
      "backlog full",
      "no memory or descriptors",
      "refused by the other side",
      "ordinary TCP peer",
      "rendezvous name taken",
      "listener with SO_REUSEPORT",
      "source address not of this partition",
      "version mismatch",
      "handed on to another program",
      "this user may not use the window",
  };
  return reason < std::size(kTexts) ? kTexts[reason] : "unknown reason";
}

}  // namespace shunt::wire
