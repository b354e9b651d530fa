// The next definition of each interposed function: libc's, or another preloaded library's.
//
// Resolved all at once, on first use or when the library is loaded; after that a table read.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

namespace shunt::preload {

// Names, exactly as exported.
// clang-format off
#define SHUNT_LIBC_FUNCTIONS(X)                                                                  \
  X(socket) X(bind) X(listen) X(accept) X(accept4) X(connect) X(shutdown)                        \
  X(getsockname) X(getpeername) X(getsockopt) X(setsockopt)                                      \
  X(read) X(readv) X(preadv2) X(recv) X(recvfrom) X(recvmsg) X(recvmmsg)                         \
  X(write) X(writev) X(pwritev2) X(send) X(sendto) X(sendmsg) X(sendmmsg)                        \
  X(sendfile) X(splice) X(vdprintf) X(fdopen) X(fclose)                                          \
  X(close) X(closefrom) X(close_range) X(dup) X(dup2) X(dup3) X(fcntl) X(ioctl)                  \
  X(poll) X(ppoll) X(select) X(pselect)                                                          \
  X(epoll_create) X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(epoll_pwait) X(epoll_pwait2)     \
  X(execve) X(execv) X(execvp) X(execvpe) X(fexecve) X(execveat)                                 \
  X(posix_spawn) X(posix_spawnp) X(posix_spawn_file_actions_adddup2) X(system) X(popen)          \
  X(_Fork) X(syscall) X(setuid) X(seteuid) X(setreuid) X(setresuid)
// clang-format on

struct Libc {
#define SHUNT_DECLARE(name) decltype(&::name) name;
  SHUNT_LIBC_FUNCTIONS(SHUNT_DECLARE)
#undef SHUNT_DECLARE
};

const Libc& libc();

}  // namespace shunt::preload
