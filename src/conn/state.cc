#include "conn/state.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

namespace shunt::conn {

void on_peer_finished(State& s) { s.peer_finished = true; }

void on_reset(State& s) {
  if (s.dead) return;
  s.dead = true;
  // As tcp_reset(): in CLOSE_WAIT the error is EPIPE, else ECONNRESET.
  s.pending_error = s.peer_finished ? EPIPE : ECONNRESET;
}

void on_lost(State& s) {
  on_reset(s);
  if (s.peer_finished) s.pending_error = ECONNRESET;
  s.peer_finished = false;
}

void on_peer_gone(State& s, bool left_unread) {
  if (s.peer_gone) return;
  s.peer_gone = true;
  if (s.dead) return;
  if (left_unread) {
    on_reset(s);
  } else {
    s.peer_finished = true;
  }
}

int on_shutdown(State& s, int how) {
  if (s.dead) return ENOTCONN;
  if (how == SHUT_RD || how == SHUT_RDWR) s.read_shut = true;
  if (how == SHUT_WR || how == SHUT_RDWR) s.write_shut = true;
  return 0;
}

int take_error(State& s) {
  const int error = s.pending_error;
  s.pending_error = 0;
  return error;
}

ReadEnd read_end(const State& s) {
  return {s.peer_finished, s.read_shut, s.dead, s.pending_error != 0};
}

Answer on_read(State& s, bool data_available, const ReadEnd& known) {
  if (data_available) return {Verdict::kGo, 0};
  if (read_end(s) != known) return {Verdict::kLookAgain, 0};
  if (s.peer_finished) return {Verdict::kEndOfFile, 0};  // SOCK_DONE comes before sk_err
  if (s.pending_error != 0) return {Verdict::kError, take_error(s)};
  if (s.read_shut || s.dead) return {Verdict::kEndOfFile, 0};
  return {Verdict::kBlock, 0};
}

Answer on_write(State& s) {
  if (s.pending_error != 0) return {Verdict::kError, take_error(s)};
  if (s.write_shut || s.dead) return {Verdict::kError, EPIPE};
  if (s.peer_gone) {
    // This write is the one that TCP answers with RST.
    on_reset(s);
    return {Verdict::kDiscard, 0};
  }
  return {Verdict::kGo, 0};
}

std::uint32_t poll_mask(const State& s, bool data_available, bool writable) {
  std::uint32_t mask = 0;
  const bool read_closed = s.read_shut || s.peer_finished || s.dead;
  const bool write_closed = s.write_shut || s.dead;
  if (read_closed && write_closed) mask |= POLLHUP;
  if (read_closed) mask |= POLLIN | POLLRDNORM | POLLRDHUP;
  if (data_available) mask |= POLLIN | POLLRDNORM;
  if (write_closed || writable) mask |= POLLOUT | POLLWRNORM;
  if (s.pending_error != 0) mask |= POLLERR;
  return mask;
}

}  // namespace shunt::conn
