// The label of a downgraded socket.
//
// A downgraded socket may come into a process that did not make it: by exec, by SCM_RIGHTS. Its
// two addresses travel with the kernel's socket itself, as a classic BPF filter that accepts everything and
// carries them as constants (SO_ATTACH_FILTER; stream sockets of AF_UNIX never run one). Only a holder of this
// end can set it, so it is as trustworthy as the descriptor; the peer cannot.
//
// Thread safety: any thread.
#pragma once

#include <cstdint>

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

}  // namespace shunt::sockets
