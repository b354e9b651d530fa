// poll and select over shunted sockets.
//
// A wait that concerns no socket of ours is libc's. Otherwise shunted connections are looked at in
// user space (spinning for a while), then announced as asleep, and the kernel waits on their bells
// together with everything else.
// Thread safety: any thread. Results as the system calls', -errno on error.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/select.h>

#include <cstdint>

#include "sockets/process/result.h"

namespace shunt::sockets {

// kPassOn: nothing of ours among the descriptors. `timeout_ns` < 0: for ever.
Outcome wait_poll(pollfd* fds, nfds_t count, std::int64_t timeout_ns, const sigset_t* mask);
Outcome wait_select(int count, fd_set* read, fd_set* write, fd_set* except, std::int64_t timeout_ns,
                    const sigset_t* mask);

}  // namespace shunt::sockets
