// The table from descriptor numbers to Sockets.
//
// The kernel's descriptor is the truth, the table a cache: every public call that closes, makes or
// moves descriptors keeps it in step. A descriptor without an entry goes straight to libc.
//
// Thread safety: any thread; what is read may have changed by then.
#pragma once

namespace shunt::sockets {

struct Socket;

// nullptr: not ours. Valid while the entry stays; lock (or pin) and check again before use.
Socket* lookup(int fd);
// Forgets `fd` in the table and returns its Socket, with the reference: give it to drop_reference()
// after the kernel's close. nullptr: not ours.
Socket* take_out(int fd);

// False: no memory, or `fd` is beyond the table.
bool fits_in_table(int fd);
// *stale: what stood there. The caller has counted a reference.
bool put_in_table(int fd, Socket* socket, Socket** stale);

// Any descriptor of this process that refers to `socket` and is not `except`, from `from` on; -1.
int next_descriptor(const Socket* socket, int from, int except);
int table_limit();  // descriptors below may have entries

// Calls `visit(fd, socket, context)` for every entry; used around fork and for closing ranges.
void for_each(void (*visit)(int, Socket*, void*), void* context, int first, int last);

}  // namespace shunt::sockets
