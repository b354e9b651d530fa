#include "driver/strangers/quota.h"

#include <unistd.h>

#include <cassert>

namespace shunt::driver {

bool Quota::has_place(uid_t uid) const {
  if (uid == 0 || uid == ::geteuid()) return true;
  const auto found = taken_.find(uid);
  return (found != taken_.end() ? found->second : 0) < most_;
}

bool Quota::take(uid_t uid) {
  if (!has_place(uid)) return false;
  ++taken_[uid];
  return true;
}

void Quota::give_back(uid_t uid) {
  const auto found = taken_.find(uid);
  assert(found != taken_.end() && found->second > 0);
  if (--found->second == 0) taken_.erase(found);
}

}  // namespace shunt::driver
