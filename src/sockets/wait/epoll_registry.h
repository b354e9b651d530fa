// The registry of epoll entries: who is registered where. Shared by epoll_registry.cc, which keeps the
// lists, and epoll_control.cc, which serves epoll_ctl.
//
// Locks: `registry` (all lists of entries) before a set's lock before a connection's locks. A
// Socket's lock may be held by the caller. With registry held, signals are blocked.
#pragma once

#include "sockets/wait/epoll_internal.h"

namespace shunt::sockets {

extern Lock registry;

// With registry and the set's lock held:
EpollEntry* find(const Socket* socket, const EpollSet* set, int fd);  // nullptr: not registered
// nullptr: no memory.
EpollEntry* remember(EpollSet* set, Socket* socket, int fd, const epoll_event& event,
                     Watched watched);
// Out of the set's care; the kernel's registration is not touched.
void forget(EpollEntry* entry);

// With the set's lock held:
// Makes the kernel's side of the set ready, so that its waiters look at the hot list.
void signal(EpollSet* set);
// The same if a thread sleeps in the kernel's wait.
void kick(EpollSet* set);
// What the kernel is told of a connection's bell.
epoll_event bell_event(const EpollEntry* entry);

}  // namespace shunt::sockets
