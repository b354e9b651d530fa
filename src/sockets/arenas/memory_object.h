// Memory objects that are handed to others: what is sent cannot be written through, and what is received is checked.
#pragma once

#include <cstdint>

namespace shunt::sockets {

// The same object as `fd`, opened for reading, close-on-exec; `fd` is closed. `fd` itself where that is not possible
// (no /proc): the seals still hold.
int open_read_only(int fd);

// Whether `fd` is a memory object of `bytes` that cannot be pulled away under a mapping: sealed, and of the ordinary page
// size.
bool is_sealed_object(int fd, std::uint64_t bytes);

}  // namespace shunt::sockets
