// Requests: the connecting side. A program of this partition asks for a connection to another one.
//
//   program           this driver                         the other driver
//     |-- CONNECT + fds ---->|                                  |
//     |   (.driver socket)   |-- CONNECT (output queue) ------->|
//     |                      |<------- STATUS or REFUSED -------|
//     |<- STATUS or REFUSED -|                                  |
//     |      (closes)        |<---- later: CONNECTED, REFUSED --|  counted only
//
// Descriptors are taken from anybody, before it is known who asks; so nothing is taken while too many are still
// to be closed (stranger_fd.h).
//
// Invariants: at most kRequestsMax at a time, of one user kRequestsOfUser (quota.h), each with a time limit; a request
// is answered once or cancelled by its program closing the socket. The descriptors of a request, and the areas behind
// them, are the carrier's business. What programs and other drivers send is checked; a wrong message
// costs its sender the request and nobody else anything.
//
// Thread safety: one thread. Errors: as counters and answers; nothing throws but out of memory.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>

#include "driver/carriers/carrier.h"
#include "driver/carriers/mailbox.h"
#include "driver/core/core.h"
#include "driver/strangers/pass_fds.h"
#include "driver/strangers/quota.h"
#include "driver/strangers/stranger_fd.h"
#include "window/unique_fd.h"
#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::driver {

inline constexpr std::size_t kRequestsMax = 1024;
inline constexpr std::size_t kRequestsOfUser = kRequestsMax / 4;

class Requests {
 public:
  // `mailbox`: what `carrier` sends by, if by any.
  Requests(Core& core, Carrier& carrier, Mailbox& mailbox, window::UniqueFd listen_socket);
  ~Requests();

  // STATUS, CONNECTED or REFUSED from another driver.
  void on_verdict(Peer& from, const wire::Message& message);
  // Time limits, and peers that went down or started again.
  void check(Clock::time_point now);
  // Ends every request.
  void refuse_all(wire::Reason reason);
  std::size_t size() const { return requests_.size(); }

 private:
  enum class State {
    kArriving,  // no CONNECT read yet
    kSending,   // the mailbox has been full so far
    kAsked,     // CONNECT is in the lane
  };
  struct Request {
    StrangerFd program;
    std::optional<uid_t> place;  // of whom it has one in quota_
    Poller::Token watch = 0;
    Clock::time_point deadline;
    State state = State::kArriving;
    Peer* peer = nullptr;
    std::uint64_t peer_generation = 0;
    wire::Message connect;
  };

  void pause_listening();
  void on_connections();
  void on_program(std::uint64_t id);
  wire::Reason accept_request(std::uint64_t id, Request& request, Received& received,
                              const std::uint8_t* bytes);
  void ask(std::uint64_t id, Request& request);
  void send_waiting(Peer& peer);
  bool ask_now(std::uint64_t id, Request& request);  // false: not now
  void grant(std::uint64_t id);
  void refuse(std::uint64_t id, wire::Reason reason);
  wire::Message verdict(const Request& request, wire::MessageType type) const;
  void forget(std::uint64_t id);

  Core& core_;
  Carrier& carrier_;
  Mailbox& mailbox_;
  StrangerFd listen_;
  Poller::Token listen_watch_ = 0;
  bool listen_paused_ = false;  // goes on at the next check
  std::uint64_t next_id_;
  std::uint64_t netns_cookie_;
  std::unordered_map<std::uint64_t, Request> requests_;
  Quota quota_{kRequestsOfUser};
  std::vector<std::deque<std::uint64_t>> sending_;  // [peer number - 1], in order of arrival
};

}  // namespace shunt::driver
