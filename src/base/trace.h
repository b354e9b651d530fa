// Static tracepoints (USDT): places that bpftrace, perf and gdb can watch in a running program.
//
// SHUNT_TRACE(name, argument...) is one nop, and a note in the file that tells where the arguments are at that
// instruction. So arguments are what is at hand: locals, parameters, constants, never a call or a load made for the
// trace. Integers, enumerations (as their number) and pointers, one to twelve of them. The provider is `shunt`;
// docs/HACKING.md lists the points, and the test lint.tracepoints holds the list against libshunt.so.
//
// Nothing is left of a point where <sys/sdt.h> (Debian: systemtap-sdt-dev) is missing at build time.
//
// Thread safety, errors: none; a point does nothing by itself, also in a signal handler.
#pragma once

#if __has_include(<sys/sdt.h>)

#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define SHUNT_TRACE(name, ...) STAP_PROBEV(shunt, name, __VA_ARGS__)

#else

namespace shunt {
template <typename... Arguments>
constexpr void untraced(const Arguments&...) {}
}  // namespace shunt

// Compiled, so that what is only traced counts as used; never run.
#define SHUNT_TRACE(name, ...)                 \
  do {                                         \
    if (false) ::shunt::untraced(__VA_ARGS__); \
  } while (false)

#endif
