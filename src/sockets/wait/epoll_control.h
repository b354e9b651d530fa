// epoll_ctl: see epoll_set.h.
//
// Thread safety: any thread. Results: 0 or -errno.
#pragma once

#include <sys/epoll.h>

#include "sockets/process/result.h"

namespace shunt::sockets {

// kPassToKernel: nothing of ours is concerned, let libc do it.
long control_epoll(int epfd, int operation, int fd, epoll_event* event);

}  // namespace shunt::sockets
