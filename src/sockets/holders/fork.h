// fork() and the end of a process, as far as connections are concerned.
//
// Thread safety: the thread that forks or exits.
#pragma once

namespace shunt::sockets {

// The process ends: what connections that the peer has downgraded still owe is sent.
void before_exit();

// Around fork(): before in the parent, and after in the child.
void before_fork();
void after_fork_in_parent();
void after_fork_in_child();

}  // namespace shunt::sockets
