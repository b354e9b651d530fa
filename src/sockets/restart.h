// Small questions about how a blocking call of the program should behave.
#pragma once

#include <cstdint>

namespace shunt::sockets {

// After EINTR from a wait that the kernel never restarts: whether every handler that the program has
// installed asks for SA_RESTART, so that the call must go on. (Which signal came cannot be known; a
// program that mixes both kinds of handlers is prepared for EINTR.)
bool all_handlers_restart();

// SO_RCVTIMEO of a kernel socket in ns; 0: none.
std::int64_t receive_timeout_ns(int fd);

}  // namespace shunt::sockets
