// epoll over shunted connections.
//
// The program's epoll descriptor is a kernel epoll instance. Kernel sockets are registered in it with
// the program's own data and cost nothing extra; a listener is represented by its waiting descriptor.
// For a shunted connection the kernel watches the bell, edge-triggered, under a cookie of ours, and
// an EpollEntry remembers what the program asked for.
//
// An entry is *hot* (its lines are looked at in user space by every wait) or *armed* (the peer knows
// that we sleep and rings). Before a wait sleeps it arms every hot entry, so a wait costs O(hot), and
// an idle connection nothing. A ring makes its entry hot again.
//
// Level-, edge-triggered and one-shot reports follow Linux: an edge is new data, the end of the
// stream, or space after a lack of it; each report gives every wanted event that holds.
// Thread safety: any thread; a set's lock is never held while sleeping. Results: >= 0 or -errno.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// After the kernel made `epfd`.
void made_epoll(int epfd);

// kPassToKernel: nothing of ours is concerned, let libc do it.
long control_epoll(int epfd, int operation, int fd, epoll_event* event);
// `timeout_ns` < 0: for ever. `mask` may be null.
long wait_epoll(int epfd, epoll_event* events, int max, std::int64_t timeout_ns,
                const sigset_t* mask);
// Whether a wait on `epfd` could report something that the kernel does not know of; arms the set
// otherwise, so that the kernel's readiness of `epfd` is the truth until then. For poll on epfd.
bool epoll_has_hot_event(Socket* set);

// A socket changes what stands for it in the kernel (it becomes a connection or a listener). Its
// registrations, made while it was plain TCP, are taken out of the kernel before the change, while
// the descriptor still names the TCP socket, and put back after it.
void detach_registrations(Socket* socket);
void attach_registrations(Socket* socket);
// In the child of a fork: announcements were the parent's; the child looks for itself.
void epolls_after_fork();

}  // namespace shunt::sockets
