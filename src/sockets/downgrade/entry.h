// The way into a connection, for a call that moves its bytes or changes how they travel.
//
// Every such call asks the same before it touches anything, in this order:
//
//   follow    a downgrade that the peer began is followed first, with no lock held
//   lock      tx, rx, or tx, rx and bell
//   look      the peer may have left its rings meanwhile: once more, then
//   recover   a process that shares the connection was killed inside the lock: what it guards is half changed, and the
//             connection is reset
//   verify    the descriptor is still this connection's, and stays it while the lock is held
//
// Thread safety: any thread, with no lock held; also in a signal handler.
#pragma once

#include "sockets/bell/look.h"
#include "sockets/connection/carriage.h"
#include "sockets/downgrade/follow.h"
#include "sockets/process/socket.h"

namespace shunt::sockets {

enum class Way : std::uint8_t {
  kRings,      // locked; the rings carry (or the connection is lost, and they say so)
  kRest,       // locked; downgraded: the rest goes first, then plain bytes
  kElsewhere,  // locked; the number is another file by now
  kInside,  // this thread is inside the lock already, further down its stack: a signal handler asks
  kLater,   // to be followed, but this thread is inside one of the connection's locks
};

enum class Side : std::uint8_t { kWrite = 1, kRead = 2, kBoth = 7 };  // tx; rx; tx, rx and bell

class Entry {
 public:
  Entry(int fd, Socket* socket, Side side) : c_(socket->connection), side_(side) {
    way_ = enter(fd, socket);
  }
  ~Entry() { release(); }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  Way way() const { return way_; }
  // Before a call that takes the locks itself.
  void release() {
    if ((held_ & kBell) != 0) c_->bell.release();
    if ((held_ & kRx) != 0) c_->rx.release();
    if ((held_ & kTx) != 0) c_->tx.release();
    held_ = 0;
  }

 private:
  static constexpr unsigned kTx = 1;
  static constexpr unsigned kRx = 2;
  static constexpr unsigned kBell = 4;

  Way enter(int fd, Socket* s) {
    for (;;) {
      if (follow_due(c_) && !follow_downgrade(fd, s)) return Way::kLater;
      if (!lock()) return Way::kInside;
      if (recovered()) reset_broken(c_);
      const conn::Carriage how = carriage(c_);
      if (how == conn::Carriage::kFollowing) {
        release();
        continue;
      }
      if (!names(fd, s)) return Way::kElsewhere;
      return conn::off_rings(how) ? Way::kRest : Way::kRings;
    }
  }
  bool lock() {
    const auto wanted = static_cast<unsigned>(side_);
    if ((wanted & kTx) != 0 && c_->tx.acquire()) held_ |= kTx;
    if ((wanted & kRx) != 0 && c_->rx.acquire()) held_ |= kRx;
    if ((wanted & kBell) != 0 && c_->bell.acquire()) held_ |= kBell;
    if (held_ == wanted) return true;
    release();
    return false;
  }
  bool recovered() const {
    return ((held_ & kTx) != 0 && c_->tx.recovered()) || ((held_ & kRx) != 0 && c_->rx.recovered());
  }
  // Also as Kind::kPlain: another thread may have moved the last of the rest.
  bool names(int fd, const Socket* s) const {
    if (lookup(fd) != s || s->connection != c_) return false;
    const Kind kind = s->kind.load(std::memory_order_acquire);
    return kind == Kind::kConnection || kind == Kind::kPlain;
  }

  Connection* const c_;
  const Side side_;
  unsigned held_ = 0;
  Way way_;
};

}  // namespace shunt::sockets
