// Calls that change who the process is: what is remembered of that is asked for anew.
#include "sockets/process/identity.h"

#include <unistd.h>

#include "preload/call.h"
#include "preload/libc.h"

using namespace shunt;           // NOLINT(google-build-using-namespace): exported C functions below
using namespace shunt::preload;  // NOLINT(google-build-using-namespace)

SHUNT_EXPORT int setuid(uid_t user) noexcept {
  const int r = libc().setuid(user);
  sockets::forget_user();
  return r;
}
SHUNT_EXPORT int seteuid(uid_t user) noexcept {
  const int r = libc().seteuid(user);
  sockets::forget_user();
  return r;
}
SHUNT_EXPORT int setreuid(uid_t real, uid_t effective) noexcept {
  const int r = libc().setreuid(real, effective);
  sockets::forget_user();
  return r;
}
SHUNT_EXPORT int setresuid(uid_t real, uid_t effective, uid_t saved) noexcept {
  const int r = libc().setresuid(real, effective, saved);
  sockets::forget_user();
  return r;
}
