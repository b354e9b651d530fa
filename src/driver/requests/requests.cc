#include "driver/requests/requests.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/trace.h"
#include "driver/strangers/source_check.h"
#include "window/address.h"

namespace shunt::driver {
namespace {

constexpr int kAcceptsAtOnce = 64;

wire::Reason reason_of(int error) {
  switch (error) {
    case ENOMEM:
    case ENOBUFS:
    case ETOOMANYREFS:
    case EMFILE:
    case ENFILE:
      return wire::Reason::kNoMemory;
    default:
      return wire::Reason::kPeerDriverDown;
  }
}

// Whose program the other end of a connection belongs to.
std::optional<uid_t> user_of(int program) {
  ucred cred{};
  socklen_t length = sizeof cred;
  if (::getsockopt(program, SOL_SOCKET, SO_PEERCRED, &cred, &length) != 0) return std::nullopt;
  return cred.uid;
}

std::uint32_t number(wire::Reason reason) { return static_cast<std::uint32_t>(reason); }

}  // namespace

// Ids carry the generation, so that an answer to an earlier life names no request of this one.
Requests::Requests(Core& core, Carrier& carrier, Mailbox& mailbox, window::UniqueFd listen_socket)
    : core_(core),
      carrier_(carrier),
      mailbox_(mailbox),
      listen_(listen_socket.release()),
      next_id_(wire::first_id(core.generation())),
      netns_cookie_(own_netns_cookie()),
      sending_(core.peers().size()) {
  listen_watch_ = core_.poller.add(listen_.get(), EPOLLIN, [this](auto) { on_connections(); });
}

Requests::~Requests() {
  core_.poller.remove(listen_watch_);
  for (auto& [id, request] : requests_) core_.poller.remove(request.watch);
  for (const auto& peer : core_.peers()) {
    if (peer) mailbox_.call_when_writable(*peer, nullptr);
  }
}

void Requests::pause_listening() {
  core_.poller.modify(listen_watch_, 0);
  listen_paused_ = true;
}

void Requests::on_connections() {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    assert(requests_.size() <= kRequestsMax);
    if (crowded()) {
      pause_listening();
      return;
    }
    StrangerFd program(::accept4(listen_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!program) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
      pause_listening();  // EMFILE and the like would make the loop spin
      return;
    }
    const std::uint64_t id = next_id_++;
    Request& request = requests_[id];
    request.program = std::move(program);
    request.deadline = Clock::now() + core_.options.request_limit;
    const auto uid = user_of(request.program.get());
    if (uid && quota_.take(*uid)) request.place = uid;
    if (requests_.size() > kRequestsMax || !request.place) {
      // Takes the request off the socket, so that its program gets the answer and not a reset.
      std::array<std::uint8_t, wire::kMessageBytes> bytes;
      receive_with_fds(request.program.get(), bytes);
      refuse(id, wire::Reason::kBacklogFull);
      continue;
    }
    request.watch = core_.poller.add(request.program.get(), EPOLLIN | EPOLLRDHUP,
                                     [this, id](auto) { on_program(id); });
  }
}

void Requests::on_program(std::uint64_t id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  Request& request = found->second;
  if (request.state == State::kArriving && crowded()) {
    forget(id);
    return;
  }
  wire::MessageBytes bytes;
  Received received = receive_with_fds(request.program.get(), bytes);
  if (received.error == EAGAIN) return;
  if (received.error != 0 || received.size == 0) {
    if (request.state != State::kArriving) count(core_.counters().requests_cancelled);
    forget(id);
    return;
  }
  if (request.state != State::kArriving || received.cut || received.size != bytes.size() ||
      received.fds.size() != carrier_.descriptors()) {
    count(core_.counters().requests_bad);
    const bool no_descriptors = received.cut && received.fds.size() < carrier_.descriptors();
    refuse(id, no_descriptors ? wire::Reason::kNoMemory : wire::Reason::kRefused);
    return;
  }
  refuse_descriptors(request.program.get());
  count(core_.counters().requests);
  const wire::Reason reason = accept_request(id, request, received, bytes.data());
  if (reason != wire::Reason::kNone) {
    refuse(id, reason);
    return;
  }
  ask(id, request);
}

wire::Reason Requests::accept_request(std::uint64_t id, Request& request, Received& received,
                                      const std::uint8_t* bytes) {
  const auto decoded = wire::decode(bytes, wire::kMessageBytes);
  const bool sound = decoded.ok() && decoded.value().type == wire::MessageType::kConnect &&
                     decoded.value().flags == 0 && decoded.value().destination.port != 0 &&
                     carrier_.sound(decoded.value(), received);
  if (!sound) {
    count(core_.counters().requests_bad);
    return wire::Reason::kRefused;
  }
  request.connect = decoded.value();
  request.connect.id = id;
  request.connect.partition = core_.self.number;
  const wire::Partition* owner = core_.table.by_address(request.connect.destination);
  if (owner == nullptr || owner->number == core_.self.number) return wire::Reason::kNotInWindow;
  const auto source = reserved_source(received.fds[carrier_.reservation()].get(), core_.self,
                                      netns_cookie_, request.connect.destination);
  if (!source) return wire::Reason::kBadSource;
  request.connect.source = *source;
  request.peer = core_.peer(owner->number);
  if (!request.peer->up(Clock::now())) return wire::Reason::kPeerDriverDown;
  request.peer_generation = request.peer->generation();
  ucred program{};
  socklen_t length = sizeof program;
  if (::getsockopt(request.program.get(), SOL_SOCKET, SO_PEERCRED, &program, &length) != 0) {
    return wire::Reason::kRefused;
  }
  return carrier_.admit(id, *request.peer, program, received, &request.connect);
}

void Requests::ask(std::uint64_t id, Request& request) {
  assert(request.state == State::kArriving && request.peer != nullptr);
  request.state = State::kSending;
  Peer& peer = *request.peer;
  std::deque<std::uint64_t>& waiting = sending_[peer.number() - 1];
  if (waiting.empty() && ask_now(id, request)) return;
  waiting.push_back(id);
  if (waiting.size() == 1) {
    mailbox_.call_when_writable(peer, [this, &peer] { send_waiting(peer); });
  }
}

void Requests::send_waiting(Peer& peer) {
  std::deque<std::uint64_t>& waiting = sending_[peer.number() - 1];
  while (!waiting.empty()) {
    const std::uint64_t id = waiting.front();
    const auto found = requests_.find(id);  // cancelled ones are gone
    if (found != requests_.end() && !ask_now(id, found->second)) return;
    waiting.pop_front();
  }
  mailbox_.call_when_writable(peer, nullptr);
}

bool Requests::ask_now(std::uint64_t id, Request& request) {
  assert(request.state == State::kSending);
  Peer& peer = *request.peer;
  // Room is sure after dispatch(): nobody else writes this lane.
  if (!core_.lane_has_room(peer)) {
    count(core_.counters().lane_full);
    refuse(id, wire::Reason::kBacklogFull);
    return true;
  }
  const int error = carrier_.dispatch(id, peer);
  if (error == EAGAIN) return false;
  if (error != 0) {
    refuse(id, reason_of(error));
    return true;
  }
  request.state = State::kAsked;
  count(core_.peer_counters(peer).requests_sent);
  core_.post(peer, request.connect);
  SHUNT_TRACE(request_forwarded, id, request.connect.destination.port);
  return true;
}

void Requests::on_verdict(Peer& from, const wire::Message& message) {
  if (message.type == wire::MessageType::kConnected) {
    if (message.id >> 32 == wire::first_id(core_.generation()) >> 32) {
      count(core_.peer_counters(from).connected);
    }
    return;
  }
  const auto found = requests_.find(message.id);
  if (found == requests_.end()) return;  // cancelled, out of time, or answered before
  const Request& request = found->second;
  if (request.peer != &from || request.state != State::kAsked) {
    count(core_.counters().messages_bad);
    return;
  }
  if (message.type == wire::MessageType::kStatus && message.reason == 0) {
    count(core_.peer_counters(from).requests_queued);
    grant(message.id);
    return;
  }
  const auto reason =
      message.reason == 0 ? wire::Reason::kRefused : static_cast<wire::Reason>(message.reason);
  refuse(message.id, reason);
}

void Requests::check(Clock::time_point now) {
  if (std::exchange(listen_paused_, false)) core_.poller.modify(listen_watch_, EPOLLIN);
  std::vector<std::uint64_t> late;
  std::vector<std::uint64_t> orphaned;
  for (const auto& [id, request] : requests_) {
    if (request.peer != nullptr &&
        (request.peer->generation() != request.peer_generation || !request.peer->up(now))) {
      orphaned.push_back(id);
    } else if (now >= request.deadline) {
      late.push_back(id);
    }
  }
  for (const auto& peer : core_.peers()) {
    if (peer && !sending_[peer->number() - 1].empty()) send_waiting(*peer);
  }
  for (const std::uint64_t id : orphaned) {
    if (requests_.contains(id)) {
      refuse(id, wire::Reason::kPeerDriverDown);
    }
  }
  for (const std::uint64_t id : late) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) continue;
    if (found->second.state == State::kArriving) {
      forget(id);  // it asked for nothing
    } else {
      refuse(id, wire::Reason::kPeerDriverDown);
    }
  }
}

void Requests::refuse_all(wire::Reason reason) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, request] : requests_) ids.push_back(id);
  for (const std::uint64_t id : ids) refuse(id, reason);
}

wire::Message Requests::verdict(const Request& request, wire::MessageType type) const {
  wire::Message verdict;
  verdict.type = type;
  verdict.source = request.connect.source;
  verdict.destination = request.connect.destination;
  verdict.partition = request.peer != nullptr ? request.peer->number() : 0;
  return verdict;
}

void Requests::grant(std::uint64_t id) {
  const Request& request = requests_.at(id);
  assert(request.state == State::kAsked);
  wire::Message status = verdict(request, wire::MessageType::kStatus);
  window::UniqueFd fd;
  if (!carrier_.complete(id, &status, &fd)) {
    refuse(id, wire::Reason::kNoMemory);
    return;
  }
  spdlog::debug("request to {}: queued", window::endpoint_text(status.destination));
  SHUNT_TRACE(request_answered, id, wire::Reason::kNone);
  const int passed = fd.get();
  // A program that is gone needs no answer.
  send_with_fds(request.program.get(), wire::encode(status),
                std::span(&passed, fd.valid() ? 1 : 0));
  forget(id);
}

void Requests::refuse(std::uint64_t id, wire::Reason reason) {
  const Request& request = requests_.at(id);
  wire::Message refused = verdict(request, wire::MessageType::kRefused);
  refused.reason = number(reason);
  count(core_.counters().request_refused[number(reason)]);
  spdlog::debug("request to {}: {}", window::endpoint_text(refused.destination),
                wire::reason_text(number(reason)));
  SHUNT_TRACE(request_answered, id, reason);
  send_with_fds(request.program.get(), wire::encode(refused), {});
  forget(id);
}

void Requests::forget(std::uint64_t id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  core_.poller.remove(found->second.watch);
  found->second.program.hang_up();
  if (found->second.place) quota_.give_back(*found->second.place);
  requests_.erase(found);
  carrier_.abandon(id);
}

}  // namespace shunt::driver
