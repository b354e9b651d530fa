// Asking the own partition's driver for a connection to another partition.
#pragma once

#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::sockets {

// Sends `connect` with the area, the TCP socket that reserves the port and one end of a new bell to
// the driver and waits for its verdict (bounded: a driver that does not answer is taken for down).
// Returns the own end of the bell once the request is in the listener's backlog, or -1 with *reason.
int request_from_driver(const wire::Message& connect, int area_fd, int reservation_fd,
                        bool nonblocking, wire::Reason* reason);

}  // namespace shunt::sockets
