// How many places of a table each user has taken, so that one leaves some to the others.
//
// Root and the driver's own user, who could end the driver as well, have no limit. Thread safety: none needed.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <unordered_map>

namespace shunt::driver {

class Quota {
 public:
  explicit Quota(std::size_t most) : most_(most) {}

  bool has_place(uid_t uid) const;
  // A place for `uid`; false: he has his share.
  bool take(uid_t uid);
  void give_back(uid_t uid);  // one that take() gave

 private:
  std::size_t most_;
  std::unordered_map<uid_t, std::size_t> taken_;  // users with at least one
};

}  // namespace shunt::driver
