// Giving memory back: segments that a burst took into use and that nobody needs any more.
//
// The ring shrinks by itself under light traffic. A connection that falls silent after a burst is
// remembered here and trimmed by whatever wait of the process comes a second or more later, so no
// thread and no timer of ours is needed. (A process that never waits again keeps the memory.)
// Thread safety: any thread.
#pragma once

#include "sockets/connection/connection.h"

namespace shunt::sockets {

// After a send, with tx held: returns what the ring released, and remembers a grown buffer.
void settle_segments(Connection* connection);
// Before a sleep: trims remembered connections that stood still since the last look.
void trim_idle();
void trim_idle_at(std::uint64_t now_ticks);  // the same at a given time, for tests

}  // namespace shunt::sockets
