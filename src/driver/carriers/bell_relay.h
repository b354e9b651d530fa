// BellRelay: the bells of this partition's connections to other kernels end here.
//
//   program --byte--> [bell] this driver --kNotice ring--> queue + doorbell --> other driver --byte--> program
//
// What a program rings is remembered as one bit of its link and leaves with the next notice for that peer: however
// often a bell rings, a round of the loop tells of it once. But the first ring of a round is told before its bell is
// read, because the peer sleeps and waits for nothing else; what the bell holds behind that ring is told again. No bit
// is ever dropped: links with something to tell wait in a queue for each peer, in order, until the lane has room.
//
// A link ends in two halves (link_state.h). Each is told once, and the link is forgotten when both are complete:
//   here:   the bell hangs up (no process holds the program's end)      -> kNoticeClosed
//           no program of ours maps the peer's area (window_lease.h)    -> kNoticeLetGo
//   there:  kNoticeClosed -> fate = peer closed, bell half shut (our program sees the end behind its bytes)
//           kNoticeLetGo  -> our area may be used again, once our own programs have let go of it too
// A peer that is declared dead: as closed and let go at once, with fate = reset. Nothing is sent to it. But where
// its program had closed before, ours still reads what is left: the fate stays. Should the peer's next life give
// the area out again, ours finds that out (ring/current.h).
//
// Invariants: nothing is written to a connecting program's bell before its CONNECTED; nothing of a listening program's
// bell is relayed before its CONNECTED, which is the first thing on it. Bytes other than rings reset the link, and so
// do descriptors. The bell's half is shut only after the fate was stored. A link that is reset closes its bell at
// once, whoever still holds the other end: who waits for its hang-up waits for whom it was reset for.
// Limits: one link for each area of the own section; kBytesAtOnce of a bell in one round of the loop.
//
// Thread safety: one thread. Errors: counters; nothing throws but out of memory.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "driver/carriers/link_state.h"
#include "driver/core/core.h"
#include "driver/strangers/stranger_fd.h"
#include "window/arena.h"
#include "wire/message.h"

namespace shunt::driver {

inline constexpr std::size_t kBytesAtOnce = 512;

class BellRelay {
 public:
  // Side of our program. kConnecting: the id is ours, else the peer's.
  enum class Side { kConnecting, kListening };
  struct LinkId {
    std::uint32_t peer;  // number
    std::uint64_t id;
    Side side;
  };
  // `withdrawn` hears of links whose listener is not to accept them any more.
  // `mapped`: window_lease.h.
  BellRelay(Core& core, window::Arena& arena, window::Arena::Mapped mapped,
            std::function<void(const LinkId&)> withdrawn);
  ~BellRelay();  // every program sees a reset: its fate stays kFateOpen

  // `bell`: the driver's end. `own`: our program's area. The peer's area is known on the listening side.
  void open(const LinkId& name, StrangerFd bell, const window::AreaGrant& own,
            std::uint64_t peer_window_offset);
  bool knows(const LinkId& name) const { return key_of(name) != 0; }
  // Whether its bell is still there. If not, its own area may be another link's by now.
  bool rings(const LinkId& name) const;
  // Connecting side: whether CONNECTED may come. False also once the program has gone.
  bool awaits_connected(const LinkId& name) const;
  // CONNECTED goes onto the bell with `area`; then one ring to the peer, because the listening program
  // may have gone to sleep before our program could know where to ring.
  void connected(const LinkId& name, std::uint64_t peer_window_offset,
                 const wire::Message& for_program, int area);
  // Our program is not to have the connection, or never got it. `ask`: the peer has been asked.
  void withdraw(const LinkId& name, bool ask);
  // The peer knows nothing of the connection.
  void refused(const LinkId& name);
  // Our program sees a reset, the peer's too.
  void abort(const LinkId& name);

  void on_notices(Peer& from, const wire::Message& message);
  void reset_all(const Peer& peer);
  // Puts what is to be told into the lanes, as far as they have room; in every round of the loop, after
  // flush_backlogs() and only for peers whose backlog is empty: a notice never overtakes a message. True: there is
  // more, and room for it; nobody else will say so.
  bool flush();
  // Looks again at links whose bell has hung up while the peer's area was still mapped.
  void sweep();
  bool wants_sweep() const { return !sweeping_.empty(); }
  std::size_t size() const { return links_.size(); }

 private:
  using Key = std::uint64_t;
  struct Link {
    Key key = 0;
    LinkId name{};
    LinkState state;
    StrangerFd bell;  // until it hangs up
    Poller::Token watch = 0;
    window::AreaGrant own;
    std::uint64_t peer_offset = 0;           // window offset of the peer's area; 0: none is known
    std::uint64_t tell = 0;                  // notice bits that are to be sent; any: in pending_
    std::uint32_t fate = layout::kFateOpen;  // as told to our program
    wire::MessageBytes first{};              // listening side: CONNECTED, until it is whole
    std::size_t first_bytes = 0;
  };

  Key key_of(const LinkId& name) const;
  Link* find(const LinkId& name);
  // Connected by its driver, and not accepted yet by our listening program.
  static bool unaccepted(const Link& link) {
    return link.name.side == Side::kListening && link.state.here() == Here::kUnanswered;
  }

  void on_bell(Key key, std::uint32_t events);
  bool tell_at_once(Link& link);
  // `told`: one ring has been told already, before the bytes were read.
  void on_bytes(Link& link, std::span<const std::uint8_t> bytes, bool told);
  void on_first(Link& link);  // CONNECTED of the listening program is whole
  void ring_program(Link& link);
  void on_notice(Peer& from, std::uint64_t notice);

  // The halves of a link's end. None of these forgets it: forget_if_over() is the caller's last step.
  // Callers of what takes a step have looked at link.state: no peer can have a wrong one taken.
  void close_here(Link& link, std::uint64_t bits = 0);
  void look_whether_mapped(Link& link);
  void end_there(Link& link, std::uint32_t fate);
  void advance_there(Link& link, There to);
  void reset_here(Link& link);
  void tell_fate(Link& link, std::uint32_t fate);
  void recall(Link& link);
  void spoil(Link& link);  // bytes that are no rings
  void abort_link(Link& link);
  void forget_name(const LinkId& name);
  void forget_if_over(Key key);
  void tell(Link& link, std::uint64_t bits);
  bool flush_to(Peer& peer);
  layout::ArenaCounters& counters() { return core_.section().header.arena; }

  Core& core_;
  window::Arena& arena_;
  window::Arena::Mapped mapped_;
  std::function<void(const LinkId&)> withdrawn_;
  Key next_key_ = 1;
  std::unordered_map<Key, Link> links_;
  std::unordered_map<std::uint64_t, Key> names_[2];  // [side]: peer and id
  std::vector<std::deque<Key>> pending_;             // [peer - 1]
  std::vector<Key> sweeping_;
  bool told_at_once_ = false;  // in this round of the loop
};

}  // namespace shunt::driver
