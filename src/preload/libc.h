// The next definition of each interposed function: libc's, or another preloaded library's.
//
// Resolved all at once, on first use or when the library is loaded; after that a table read.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

namespace shunt::preload {

// name, exactly as exported
#define SHUNT_LIBC_FUNCTIONS(X)                                                                    \
  X(socket)                                                                                        \
  X(bind)                                                                                          \
  X(listen) X(accept) X(accept4) X(connect) X(shutdown) X(getsockname) X(getpeername)              \
      X(getsockopt) X(setsockopt) X(read) X(readv) X(preadv2) X(write) X(writev) X(pwritev2)       \
          X(recv) X(recvfrom) X(recvmsg) X(recvmmsg) X(send) X(sendto) X(sendmsg) X(sendmmsg)      \
              X(sendfile) X(splice) X(vdprintf) X(close) X(closefrom) X(close_range) X(dup)        \
                  X(dup2) X(dup3) X(fcntl) X(ioctl) X(fclose) X(fdopen) X(poll) X(ppoll) X(select) \
                      X(pselect) X(epoll_create) X(epoll_create1) X(epoll_ctl) X(epoll_wait)       \
                          X(epoll_pwait) X(epoll_pwait2) X(_Fork) X(syscall)

struct Libc {
#define SHUNT_DECLARE(name) decltype(&::name) name;
  SHUNT_LIBC_FUNCTIONS(SHUNT_DECLARE)
#undef SHUNT_DECLARE
};

const Libc& libc();

}  // namespace shunt::preload
