// The life of an epoll set in this process: from epoll_create() to the last close, and across a fork.
//
// Thread safety: any thread.
#pragma once

namespace shunt::sockets {

// After the kernel made `epfd`.
void made_epoll(int epfd);
// In the child of a fork: announcements were the parent's; the child looks for itself.
void epolls_after_fork();

}  // namespace shunt::sockets
