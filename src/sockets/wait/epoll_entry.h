// One registration of a connection in an epoll set: hot, armed, due. See epoll_set.h.
//
// Thread safety: with the set's lock held.
#pragma once

#include "sockets/wait/epoll_set.h"

namespace shunt::sockets {

void make_hot(EpollEntry* entry);
void make_cold(EpollEntry* entry);  // off the hot list, without arming
// Arms for what the entry waits for and looks again; true: there is an event after all, and the
// entry is not armed.
bool arm(EpollEntry* entry);
void disarm(EpollEntry* entry);
// Events to report now, 0: none. `take`: they are reported, so the edge that justifies them is used.
std::uint32_t due_events(EpollEntry* entry, bool take);

}  // namespace shunt::sockets
