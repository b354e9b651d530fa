// What bell.cc (ringing, and sleeping on a bell) and look.cc (what is found on it) share.
#pragma once

#include "sockets/bell/bell.h"

namespace shunt::sockets {

// Only a closed other end makes a hang-up; shutdown() of a bell, by us or by the peer to wake its own
// sleepers, makes reads or rings fail too and means nothing. A driver shuts a bell for good, and says why before.
void note_if_gone(int fd, Connection* c);
// The peer leaves its rings. Between kernels nobody can follow it, and no honest peer does that.
void peer_leaves(Connection* c);
// Takes what is on the bell, a CONNECTED too. `others_sleep`: they would miss what is taken, so only
// CONNECTED is looked at and all stays. With c->bell held.
void drain(int fd, Socket* socket, bool others_sleep);

}  // namespace shunt::sockets
