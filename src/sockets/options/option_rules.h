// Which socket options a shunted connection can honour, and how: the one table behind options.h.
//
// An option that is not in the table might do anything: before a connection is set up it keeps the
// connection on kernel TCP, afterwards it is answered as by a kernel that does not know it.
// Thread safety: constant, but for the marks, which are atomic.
#pragma once

#include <sys/socket.h>

#include <cstdint>

namespace shunt::sockets {

enum class OptionRule : std::uint8_t {
  kSwitch,   // an int, kept as 0 or 1; needs no kernel
  kRange,    // an int within [low, high], else EINVAL; needs no kernel
  kKeep,     // the kernel says what becomes of the value; kept, without effect on shared memory
  kField,    // as kKeep, and acted upon: a time-out, a limit, lingering
  kBefore,   // only before the connection is set up; EINVAL afterwards, as on Linux
  kNeutral,  // would do something that shared memory cannot: only the value "off" is possible
};

struct Option {
  std::int16_t level;
  std::int16_t name;
  OptionRule rule;
  bool inherited;  // by an accepted connection from its listener
  std::int32_t low;
  std::int32_t high;
  const char* text;
};

inline constexpr int kMaxOptions = 128;

// The table; *count entries. find_option: index, or -1.
const Option* options_table(int* count);
int find_option(int level, int name);
// Whether `value` switches a kNeutral option off (or leaves it off).
bool is_neutral(const Option& option, const void* value, socklen_t length);

// Options that this process (or the one it was forked from) has ever set on a TCP socket: only they
// can differ from a fresh socket's when a connection is set up.
void mark_option(int index);
bool option_marked(int index);

// Before connect or listen, for a TCP socket (Kind::kTcp): looks at an option that the program has
// just set successfully on the kernel socket. Null: shared memory can honour it; else the option's
// name, e.g. "SO_MARK": the connection must stay on kernel TCP.
const char* option_forbids_shared_memory(int level, int name, const void* value, socklen_t length);

}  // namespace shunt::sockets
