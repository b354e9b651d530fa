// Descriptors that close, move and multiply: keeping the table in step with the kernel.
//
// A vfork child shares our memory but not our descriptors: its calls change nothing here. But what it copies
// it means to pass on to the program that it becomes, so a connection is downgraded before it is copied
// (downgrade.h); where that is not possible the copy is close-on-exec. Everything
// that the provider itself holds open is protected from programs that close what they did not open.
// Thread safety: any thread. Results: >= 0 or -errno, as the system call of the same name.
#pragma once

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// Each does the system call too; kPassOn: nothing of ours, let libc do it.
Outcome close_descriptor(int fd);
Outcome duplicate(int fd);
Outcome duplicate_to(int from, int to, int flags);                    // dup3
Outcome duplicate_from(int fd, int lowest, bool close_on_exec);       // F_DUPFD, F_DUPFD_CLOEXEC
Outcome close_descriptors(unsigned first, unsigned last, int flags);  // close_range

// F_GETFL and F_SETFL of a listener or connection; other commands: kPassOn.
Outcome control_descriptor(int fd, Socket* socket, int command, long argument);
// O_NONBLOCK as the program means it, by fcntl or FIONBIO.
void set_nonblocking(int fd, Socket* socket, bool on);

// The descriptor is about to be closed or replaced by somebody else (fclose, a raw system call):
// forget it. Returns what finish_forget() must be given after the close; null: it was not ours.
Socket* begin_forget(int fd);
void finish_forget(Socket* socket);

// The provider's own descriptor: a program must not close it.
bool is_internal(int fd);

}  // namespace shunt::sockets
