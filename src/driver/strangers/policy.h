// Policy: which users' programs may have the descriptor of a window's device.
//
// The descriptor shows a program the whole window, the other partitions' sections included: allow only users whom
// the partition's administrator trusts with that (docs/THREAT-MODEL.md). Root and the driver's own user are always
// allowed, further ones by name or number, "any" allows all. Asked for the program that connects (SO_PEERCRED of its
// request) and for the listener's (SO_PEERCRED of the rendezvous). Refusals: wire::Reason::kNotAllowed.
//
// A name is looked up once, when the driver starts. A name of digits only is a number.
//
// Thread safety: constant once made. Errors: WindowError: no such user, not a user's number.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace shunt::driver {

class Policy {
 public:
  explicit Policy(const std::vector<std::string>& allowed);
  bool may_use(uid_t uid) const;

 private:
  bool any_ = false;
  std::vector<uid_t> uids_;
};

}  // namespace shunt::driver
