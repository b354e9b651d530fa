// Reaches a listener's provider in this network namespace.
//
// Anyone may bind an abstract name, so its owner must be trusted: root, this driver's own user, or
// the owner of the kernel TCP listener at the same address and port.
//
// Thread safety: no shared state. Never blocks.
#pragma once

#include <sys/types.h>

#include "driver/strangers/stranger_fd.h"
#include "wire/endpoint.h"
#include "wire/reason.h"

namespace shunt::driver {

struct Rendezvous {
  StrangerFd socket;  // connected when `reason` is kNone
  uid_t owner = 0;    // whose program listens there
  wire::Reason reason = wire::Reason::kNone;
};

// kNoListener: nobody waits there. kBacklogFull: the listener's queue is full. kUntrustedListener:
// somebody waits there who may not. kNoMemory: no descriptor for it.
Rendezvous open_rendezvous(const wire::Endpoint& destination);

}  // namespace shunt::driver
