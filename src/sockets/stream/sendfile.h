// sendfile() and splice() with a shunted connection at one end.
//
// No byte is lost or sent twice: a file's position moves by what the stream took, a pipe is read only
// as far as the stream has room, and a stream is consumed only as far as the pipe took it.
//
// Results are >= 0, -errno or kNotOurs. -EPIPE: when the connection is where the bytes
// were to go, the caller raises SIGPIPE; for a pipe the kernel has done so already.
// Thread safety: any number of threads.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "sockets/process/result.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

// `offset` null: the file's own position is used and moved.
Outcome sendfile_stream(int out_fd, Socket* out, int in_fd, off_t* offset, std::size_t count);

// One of `in` and `out` is the connection under in_fd or out_fd, the other null (both: EINVAL, as
// neither is a pipe).
Outcome splice_stream(int in_fd, Socket* in, off_t* in_offset, int out_fd, Socket* out,
                      off_t* out_offset, std::size_t count, unsigned flags);

}  // namespace shunt::sockets
