// epoll_wait: hot entries in user space, everything else from the kernel. See epoll_set.h.
//
// Thread safety: any thread; a set's lock is never held while sleeping. Results: >= 0 or -errno; kPassOn:
// nothing of ours is concerned, let libc do it.
#pragma once

#include <signal.h>
#include <sys/epoll.h>

#include <cstdint>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// `timeout_ns` < 0: for ever. `mask` may be null.
Outcome wait_epoll(int epfd, epoll_event* events, int max, std::int64_t timeout_ns,
                   const sigset_t* mask);
// Whether a wait on `epfd` could report something that the kernel does not know of; arms the set
// otherwise, so that the kernel's readiness of `epfd` is the truth until then. For poll on epfd.
bool epoll_has_hot_event(Socket* set);

}  // namespace shunt::sockets
