// What epoll sets do about what they are told from below: see process/missed.h.
//
// Thread safety: any thread; with no lock held but a Socket's.
#pragma once

#include "sockets/process/socket.h"

namespace shunt::sockets {

// Every socket that was noted is looked at again, by whoever waits on its sets.
void rouse_registrations();
// The socket was downgraded: its registrations are watched otherwise.
void rewatch_registrations(Socket* socket);

}  // namespace shunt::sockets
