// Carrier: how the areas and the bell of a connection get to the other side.
//
// Requests and Arrivals (who may connect where, time limits, answers) are the same for every window.
// What differs between partitions of one kernel and of several is behind this interface:
//
//   DescriptorCarrier  one kernel: the area's memfd and the bell go to the other driver's `.peer`
//                      socket and from there to the listener; nothing of them stays with a driver.
//   RangeCarrier       several kernels: areas are ranges of the own section, bells end at the drivers.
//
// Thread safety: one thread. Errors: reasons; nothing throws but out of memory.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "driver/core/peer.h"
#include "driver/strangers/pass_fds.h"
#include "driver/strangers/stranger_fd.h"
#include "window/unique_fd.h"
#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::driver {

class Carrier {
 public:
  virtual ~Carrier() = default;

  // ---- connecting side; `id` names the request in every call ----

  // How many descriptors a program's CONNECT brings, and which one of them reserves its port.
  virtual std::size_t descriptors() const = 0;
  virtual std::size_t reservation() const = 0;
  // Whether `connect` and its descriptors() descriptors are what they must be. Keeps nothing.
  virtual bool sound(const wire::Message& connect, const Received& received) const = 0;
  // Takes the descriptors of a sound request from `program` that passed every other check, and
  // completes `connect`. From kNone on until complete() or abandon() the request is the carrier's.
  virtual wire::Reason admit(std::uint64_t id, Peer& to, const ucred& program, Received& received,
                             wire::Message* connect) = 0;
  // Right before the CONNECT is put into the lane. 0, EAGAIN (see when_writable), or why not.
  virtual int dispatch(std::uint64_t id, Peer& to) = 0;
  // `callback` runs in each round of the event loop in which dispatch() may succeed, until nullptr.
  virtual void when_writable(Peer& to, std::function<void()> callback) = 0;
  // STATUS is about to be told: what goes with it. False: it cannot be; refuse with kNoMemory.
  virtual bool complete(std::uint64_t id, wire::Message* status, window::UniqueFd* fd) = 0;
  // The request ended without STATUS. Does nothing for ids that are not, or no longer, the carrier's.
  virtual void abandon(std::uint64_t id) = 0;
  virtual void on_connected(Peer& from, const wire::Message& message) = 0;
  // The other side refused: nothing of the request is there. abandon() follows if it still waits.
  virtual void on_refused(Peer& from, std::uint64_t id) = 0;

  // ---- listening side ----

  struct Handover {  // what the listener's provider gets
    wire::Message connect;
    // One of the two: descriptors of this driver's making, or those that the other program sent.
    std::vector<window::UniqueFd> made;
    std::vector<StrangerFd> sent;
  };
  // A CONNECT came for a listener that is there, a program of user `listener`. handed() follows.
  virtual wire::Reason arrive(Peer& from, const wire::Message& connect, uid_t listener,
                              Handover* out) = 0;
  // Whether the listener has got it. False also for a CONNECT that was refused without arrive().
  virtual void handed(Peer& from, std::uint64_t id, bool done) = 0;
  // Whether the other driver is to be told what the listener's program answers at accept().
  virtual bool passes_answers_on() const = 0;
  // `callback` hears of connections that the listener is not to accept any more.
  virtual void when_withdrawn(
      std::function<void(std::uint32_t peer, std::uint64_t id)> callback) = 0;

  // ---- both ----

  virtual void on_notices(Peer& from, const wire::Message& message) = 0;
  // Declared dead, or in a new session: it knows nothing of any connection of before.
  virtual void on_peer_gone(Peer& peer) = 0;
  virtual void check(Clock::time_point now) = 0;  // at each tick
  // In each round of the loop, after the backlogs. Returns when it wants to be called again at the
  // latest; Poller::kForever: with the next event or tick.
  virtual std::chrono::microseconds flush(Clock::time_point now) = 0;
};

}  // namespace shunt::driver
