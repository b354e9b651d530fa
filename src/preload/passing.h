// Descriptors that travel with SCM_RIGHTS, on any socket: see sockets/downgrade/downgrade.h and
// sockets/holders/adopt.h.
#pragma once

#include <sys/socket.h>

namespace shunt::preload {

// Before sendmsg: what the message carries is made fit for a program without the provider. 0, or -EAGAIN: the
// message must not be sent now.
long prepare_passing(const msghdr* message);
// After recvmsg: connections among what has come become ours.
void adopt_passed(msghdr* message);

}  // namespace shunt::preload
