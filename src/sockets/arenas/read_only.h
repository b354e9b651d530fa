// A descriptor of a memory object that its receiver cannot write through.
#pragma once

namespace shunt::sockets {

// The same object as `fd`, opened for reading, close-on-exec; `fd` is closed. `fd` itself where that is not possible
// (no /proc): the seals still hold.
int open_read_only(int fd);

}  // namespace shunt::sockets
