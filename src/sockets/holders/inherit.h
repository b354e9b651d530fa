// Descriptors that leave for another program, by exec, a spawn or SCM_RIGHTS: which are downgraded, and when.
//
// Thread safety: any thread; with no lock held.
#pragma once

#include "sockets/process/socket.h"

namespace shunt::sockets {

// Before an exec (or a spawn) of the calling process: downgrades every connection of which a descriptor would
// stay open. One that cannot be is made close-on-exec: the new program gets EBADF, not garbage. Should the
// calling program live on, release_kept() undoes that.
struct KeptBack {
  static constexpr int kMost = 16;  // further ones stay close-on-exec
  int fds[kMost];
  int count;
};
void downgrade_inherited(KeptBack* kept);
void release_kept(const KeptBack& kept);
// Before `fd` is handed on with SCM_RIGHTS or named in a spawn's file actions. 0 or -EAGAIN; 0 for a
// descriptor that is no connection of ours. For a listener: see listener.h, share_listener().
long downgrade_for_passing(int fd);

}  // namespace shunt::sockets
