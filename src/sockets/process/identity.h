// Which process this is: a vfork child runs in its parent's memory, but has descriptors of its own.
//
// Thread safety: remember_process() before there are threads; the rest any thread.
#pragma once

namespace shunt::sockets {

// At start-up, and in the child of a fork.
void remember_process();

// This thread runs in a vfork child.
bool in_vfork_child();

}  // namespace shunt::sockets
