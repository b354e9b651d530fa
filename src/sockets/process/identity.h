// Which process this is, and whose: a vfork child runs in its parent's memory, but has descriptors of its own.
//
// Thread safety: remember_process() before there are threads; the rest any thread.
#pragma once

#include <cstdint>

namespace shunt::sockets {

// At start-up, and in the child of a fork.
void remember_process();

// This thread runs in a vfork child.
bool in_vfork_child();

// The effective user, remembered. A program that changes it by a system call of its own makes this wrong: its
// connections to listeners of other users are then refused.
std::uint32_t own_user();
void forget_user();

}  // namespace shunt::sockets
