// Carrier: how the areas and the bell of a connection get to the other side.
//
// Requests and Arrivals (who may connect where, time limits, answers) are the same for every window.
// What differs between partitions of one kernel and of several is behind this interface:
//
//   DescriptorCarrier  one kernel: the area's memfd and the bell go to the other driver's `.peer`
//                      socket and from there to the listener; nothing of them stays with a driver.
//   RangeCarrier       several kernels: areas are ranges of the own section, bells end at the drivers.
//
// Here is what both mean by carrying one request. What only one of them has to hear or do (what becomes of
// a connection, descriptors that nobody fetches) is that one's own interface, which the Driver uses.
//
// Thread safety: one thread. Errors: reasons; nothing throws but out of memory.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
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
  std::size_t descriptors() const { return brought_.descriptors; }
  std::size_t reservation() const { return brought_.reservation; }
  // Whether `connect` and its descriptors() descriptors are what they must be. Keeps nothing.
  virtual bool sound(const wire::Message& connect, const Received& received) const = 0;
  // Takes the descriptors of a sound request from `program` that passed every other check, and
  // completes `connect`. From kNone on until complete() or abandon() the request is the carrier's.
  virtual wire::Reason admit(std::uint64_t id, Peer& to, const ucred& program, Received& received,
                             wire::Message* connect) = 0;
  // Right before the CONNECT is put into the lane. 0; EAGAIN: the mailbox is full, and says when it is
  // not (Mailbox::call_when_writable); or why not.
  virtual int dispatch(std::uint64_t id, Peer& to) = 0;
  // STATUS is about to be told: what goes with it. False: it cannot be; refuse with kNoMemory.
  virtual bool complete(std::uint64_t id, wire::Message* status, window::UniqueFd* fd) = 0;
  // The request ended without STATUS. Does nothing for ids that are not, or no longer, the carrier's.
  virtual void abandon(std::uint64_t id) = 0;

  // ---- listening side ----

  struct Handover {  // what the listener's provider gets
    wire::Message connect;
    // One of the two: descriptors of this driver's making, or those that the other program sent.
    std::vector<window::UniqueFd> made;
    std::vector<StrangerFd> sent;
    // Whether the other driver is to be told what the listener's program answers at accept().
    bool pass_answer_on = false;
  };
  // A CONNECT came for a listener that is there, a program of user `listener`. handed() follows.
  virtual wire::Reason arrive(Peer& from, const wire::Message& connect, uid_t listener,
                              Handover* out) = 0;
  // Whether the listener has got it. False also for a CONNECT that was refused without arrive().
  virtual void handed(Peer& from, std::uint64_t id, bool done) = 0;

 protected:
  struct Brought {
    std::size_t descriptors;
    std::size_t reservation;  // index
  };
  explicit Carrier(Brought brought) : brought_(brought) {}

 private:
  const Brought brought_;
};

}  // namespace shunt::driver
