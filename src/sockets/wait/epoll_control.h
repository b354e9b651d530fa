// epoll_ctl: see epoll_set.h.
//
// Thread safety: any thread. Results: 0 or -errno.
#pragma once

#include <sys/epoll.h>

#include "sockets/process/result.h"

namespace shunt::sockets {

// kPassOn: nothing of ours is concerned, let libc do it.
Outcome control_epoll(int epfd, int operation, int fd, epoll_event* event);

}  // namespace shunt::sockets
