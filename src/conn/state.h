// The life of a shunted connection as its program sees it: what a read, a write and a poll answer.
//
// A primer. Bytes and their order are the ring's business; here are only the events around them,
// named for what happened in the world, and the answers that Linux TCP gives after them:
//
//   peer_finished   the peer will write no more (shutdown or close); what is buffered is still read,
//                   then end of file.
//   peer_gone       no process holds the peer's end any more. If it left bytes of ours unread, TCP
//                   would have sent RST: that is `reset`. If not, it is an end of file, and the
//                   first write afterwards still succeeds, as TCP's does before the RST comes back.
//   reset           the connection is dead: one ECONNRESET (EPIPE once the peer had finished), then
//                   end of file for reads and EPIPE for writes.
//   shut_down       what this program did with shutdown().
//
// Pure: no descriptor, no clock, no memory of others. Thread safety: the caller serialises; each field alone may be
// read at any time, for a first guess that is then checked in turn.
#pragma once

#include <atomic>
#include <cstdint>

namespace shunt::conn {

template <typename T>
class Field {
 public:
  Field() = default;
  Field(const Field& other) : value_(static_cast<T>(other)) {}
  Field& operator=(const Field& other) { return *this = static_cast<T>(other); }
  Field& operator=(T value) {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }
  operator T() const {  // NOLINT(google-explicit-constructor)
    return value_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<T> value_{};
};

struct State {
  Field<bool> read_shut;   // this program: shutdown(SHUT_RD)
  Field<bool> write_shut;  // this program: shutdown(SHUT_WR)
  Field<bool> peer_finished;
  Field<bool> peer_gone;
  Field<bool> dead;          // reset, by whom ever
  Field<int> pending_error;  // errno that the next call reports, once
};

void on_peer_finished(State& s);
// `left_unread`: the peer ended without reading all that we had written.
void on_peer_gone(State& s, bool left_unread);
void on_reset(State& s);
// A reset with which bytes of the peer are lost that were still to be read: an end that it announced behind them
// does not count.
void on_lost(State& s);
// how: SHUT_RD, SHUT_WR or SHUT_RDWR. Returns 0, or ENOTCONN when the connection is dead.
int on_shutdown(State& s, int how);
int take_error(State& s);  // for SO_ERROR: returns and clears the pending error

enum class Verdict {
  kGo,         // move bytes
  kBlock,      // nothing to read, no space: wait or EAGAIN
  kEndOfFile,  // read returns 0
  kDiscard,    // write "succeeds", nobody will read it (see peer_gone)
  kError,      // `error` holds the errno; EPIPE raises SIGPIPE unless MSG_NOSIGNAL
  kLookAgain,  // reads: an end was noticed after the look for data
};
struct Answer {
  Verdict verdict;
  int error;
};

// What is known of the incoming stream's end. An end that another thread notices between a look for data and the
// answer is behind data that the look has not seen: so what was known is taken down before the look.
struct ReadEnd {
  bool finished;
  bool shut;
  bool dead;
  bool error;
  bool operator==(const ReadEnd&) const = default;
};
ReadEnd read_end(const State& s);
// `data_available`: what a look found that began after `known` was taken.
Answer on_read(State& s, bool data_available, const ReadEnd& known);
Answer on_write(State& s);

// POLLIN, POLLOUT, POLLRDHUP, POLLHUP, POLLERR (with the RDNORM/WRNORM twins), as tcp_poll gives
// them for a connected socket.
std::uint32_t poll_mask(const State& s, bool data_available, bool writable);

}  // namespace shunt::conn
