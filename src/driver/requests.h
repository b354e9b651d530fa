// Requests: the connecting side. A program of this partition asks for a connection to another one.
//
//   program           this driver                         the other driver
//     |-- CONNECT + 3 fds -->|                                  |
//     |   (.driver socket)   |-- 2 fds (.peer socket) --------->|
//     |                      |-- CONNECT (output queue) ------->|
//     |                      |<------- STATUS or REFUSED -------|
//     |<- STATUS or REFUSED -|                                  |
//     |      (closes)        |<---- later: CONNECTED, REFUSED --|  counted only
//
// Invariants: at most kRequestsMax at a time, each with a time limit; a request is answered once or
// cancelled by its program closing the socket. Descriptors leave with the datagram and are closed
// here at once. What programs and other drivers send is checked; a wrong message costs its sender
// the request and nobody else anything.
//
// Thread safety: one thread. Errors: as counters and answers; nothing throws but out of memory.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>

#include "driver/core.h"
#include "driver/pass_fds.h"
#include "window/unique_fd.h"
#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::driver {

inline constexpr std::size_t kRequestsMax = 1024;

class Requests {
 public:
  Requests(Core& core, window::UniqueFd listen_socket);
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
    kSending,   // the peer's socket was full
    kAsked,     // CONNECT is in the lane
  };
  struct Request {
    window::UniqueFd program;
    Poller::Token watch = 0;
    Clock::time_point deadline;
    State state = State::kArriving;
    Peer* peer = nullptr;
    std::uint64_t peer_generation = 0;
    wire::Message connect;
    window::UniqueFd area;
    window::UniqueFd bell;
  };

  void on_connections();
  void on_program(std::uint64_t id);
  wire::Reason accept_request(Request& request, Received& received, const std::uint8_t* bytes);
  void ask(std::uint64_t id, Request& request);
  void send_waiting(Peer& peer);
  bool ask_now(std::uint64_t id, Request& request);  // false: the peer's socket is full
  void answer(std::uint64_t id, wire::MessageType type, wire::Reason reason);
  void forget(std::uint64_t id);

  Core& core_;
  window::UniqueFd listen_;
  Poller::Token listen_watch_ = 0;
  bool listen_paused_ = false;  // out of descriptors: goes on at the next check
  std::uint64_t next_id_;
  std::uint64_t netns_cookie_;
  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<std::deque<std::uint64_t>> sending_;  // [peer number - 1], in order of arrival
};

}  // namespace shunt::driver
