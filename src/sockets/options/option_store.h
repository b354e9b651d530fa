// The options of a connection as the program set them, and what some of them do.
//
// Thread safety: any thread; Connection::options_lock guards the store.
#pragma once

#include "sockets/connection/connection.h"

namespace shunt::sockets {

// Several names of one option: SO_SNDBUFFORCE is kept as SO_SNDBUF, SO_RCVTIMEO_NEW as _OLD, ...
int stored_name(int level, int name);

// False: no room for one more. `option` has its stored_name().
bool store_option(Connection* connection, const StoredOption& option);
bool load_option(Connection* connection, int level, int name, StoredOption* out);

// Asks the kernel's socket `fd` for an option's value. False: it has none to tell.
bool read_option(int fd, int level, int name, StoredOption* out);

// Makes a kField option effective: time-outs, SO_LINGER, SO_RCVLOWAT, SO_SNDBUF.
void apply_option(Connection* connection, const StoredOption& option);

inline std::int32_t int_value(const StoredOption& option) {
  std::int32_t value;
  static_assert(sizeof option.value >= sizeof value);
  __builtin_memcpy(&value, option.value, sizeof value);
  return value;
}

}  // namespace shunt::sockets
