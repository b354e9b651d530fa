// Asking the own partition's driver for a connection to another partition.
#pragma once

#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::sockets {

// The own area in a window on a device, as the driver gave it.
struct Grant {
  int device = -1;  // the caller closes it
  wire::Location where;
  std::uint32_t generation = 0;
};

// Whether the other end of an AF_UNIX connection can be this partition's driver: the window's owner, or root. Nobody
// else is given a request, or believed to bring one.
bool from_driver(int fd);

// Sends `connect` with the area (-1: the driver is to give one), the TCP socket that reserves the port and one end of
// a new bell to the driver and waits for its verdict (bounded: a driver that does not answer is taken for down).
// Returns the own end of the bell once the request is in the listener's backlog, with *grant if no area was sent; or
// -1 with *reason.
int request_from_driver(const wire::Message& connect, int area_fd, int reservation_fd,
                        bool nonblocking, wire::Reason* reason, Grant* grant);

}  // namespace shunt::sockets
