// Plain sockets: connections that were downgraded (downgrade.h), as the program sees them.
//
// The kernel's AF_UNIX stream at the descriptor moves the bytes; what the program must not notice is that it
// is AF_UNIX: names, options and a few flags are still answered here, from the Connection page.
//
// The label. A downgraded socket may come into a process that did not make it: by exec, by SCM_RIGHTS. Its
// two addresses travel with the kernel's socket itself, as a classic BPF filter that accepts everything and
// carries them as constants (SO_ATTACH_FILTER; stream sockets of AF_UNIX never run one). Only a holder of this
// end can set it, so it is as trustworthy as the descriptor; the peer cannot.
//
// Thread safety: any thread.
#pragma once

#include "sockets/process/socket.h"
#include "wire/endpoint.h"

namespace shunt::sockets {

struct Label {
  wire::Endpoint local;
  wire::Endpoint remote;
  std::uint16_t family;  // of the socket as the program made it
};

// False: the kernel refuses filters here; the socket then has no names in other programs.
bool write_label(int bell, const Label& label);
// False: no label of ours.
bool read_label(int fd, Label* label);

// `fd` has just come into this process. A labelled socket becomes Kind::kPlain; anything else is left alone.
void adopt_plain(int fd);
// When the library is loaded: what exec() has left open.
void adopt_inherited();

}  // namespace shunt::sockets
