#include "driver/requests/arrivals.h"

#include <spdlog/spdlog.h>

#include <cassert>
#include <cerrno>
#include <vector>

#include "driver/strangers/pass_fds.h"
#include "driver/strangers/rendezvous.h"
#include "window/address.h"

namespace shunt::driver {

Arrivals::Arrivals(Core& core, Carrier& carrier)
    : core_(core), carrier_(carrier), listeners_(&core.section()) {}

Arrivals::~Arrivals() {
  for (auto& [key, handed] : handed_) core_.poller.remove(handed.watch);
}

void Arrivals::withdraw(std::uint32_t peer, std::uint64_t id) {
  for (const auto& [key, handed] : handed_) {
    if (handed.from->number() != peer || handed.id != id) continue;
    forget(key);
    return;
  }
}

wire::Reason Arrivals::check(const Peer& from, const wire::Message& message) const {
  if (message.flags != 0 || message.partition != from.number()) return wire::Reason::kRefused;
  if (!from.owns(message.source) || message.source.port == 0) return wire::Reason::kBadSource;
  if (!core_.self.owns(message.destination) || message.destination.port == 0) {
    return wire::Reason::kNotInWindow;
  }
  return handed_.size() < kHandedMax ? wire::Reason::kNone : wire::Reason::kBacklogFull;
}

void Arrivals::on_connect(Peer& from, const wire::Message& message) {
  count(core_.peer_counters(from).arrivals);
  wire::Reason reason = check(from, message);
  if (reason == wire::Reason::kNone) reason = hand_over(from, message);
  carrier_.handed(from, message.id, reason == wire::Reason::kNone);
  spdlog::debug("{} from {} of '{}': {}", window::endpoint_text(message.destination),
                window::endpoint_text(message.source), from.name(),
                reason == wire::Reason::kNone
                    ? "queued"
                    : wire::reason_text(static_cast<std::uint32_t>(reason)));
  if (reason == wire::Reason::kNone) {
    count(core_.peer_counters(from).arrivals_queued);
    listeners_.saw(message.destination);
    reply(from, message.id, wire::MessageType::kStatus, reason);
  } else {
    count(core_.counters().arrival_refused[static_cast<std::uint32_t>(reason)]);
    reply(from, message.id, wire::MessageType::kRefused, reason);
  }
}

wire::Reason Arrivals::hand_over(Peer& from, const wire::Message& message) {
  Rendezvous rendezvous = open_rendezvous(message.destination);
  if (rendezvous.reason != wire::Reason::kNone) return rendezvous.reason;
  if (!quota_.has_place(rendezvous.owner)) return wire::Reason::kBacklogFull;
  Carrier::Handover out;
  const wire::Reason reason = carrier_.arrive(from, message, rendezvous.owner, &out);
  if (reason != wire::Reason::kNone) return reason;
  out.connect.flags = wire::kViaDriver;
  out.connect.id = 0;
  assert(out.made.empty() || out.sent.empty());
  std::vector<int> passed;
  for (const window::UniqueFd& fd : out.made) passed.push_back(fd.get());
  for (const StrangerFd& fd : out.sent) passed.push_back(fd.get());
  const int error = send_with_fds(rendezvous.socket.get(), wire::encode(out.connect), passed);
  if (error != 0) {
    // A listener that closes just now is no listener; anything else is a lack of resources.
    return error == EPIPE || error == ECONNRESET ? wire::Reason::kNoListener
                                                 : wire::Reason::kNoMemory;
  }
  const std::uint64_t key = next_key_++;
  Handed& handed = handed_[key];
  assert(handed_.size() <= kHandedMax);
  quota_.take(rendezvous.owner);
  handed.owner = rendezvous.owner;
  handed.rendezvous = std::move(rendezvous.socket);
  handed.from = &from;
  handed.from_generation = from.generation();
  handed.id = message.id;
  handed.pass_answer_on = out.pass_answer_on;
  handed.watch = core_.poller.add(handed.rendezvous.get(), EPOLLIN | EPOLLRDHUP,
                                  [this, key](auto) { on_listener(key); });
  return wire::Reason::kNone;
}

void Arrivals::on_listener(std::uint64_t key) {
  const auto found = handed_.find(key);
  if (found == handed_.end()) return;
  Handed& handed = found->second;
  wire::MessageBytes bytes;
  const Received received = receive_with_fds(handed.rendezvous.get(), bytes);
  if (received.error == EAGAIN) return;
  const auto message = wire::decode(bytes.data(), received.size);
  // A driver that started again knows nothing of this connection.
  const bool known = handed.from->generation() == handed.from_generation;
  if (received.error == 0 && message.ok()) {
    const auto type = message.value().type;
    if (type == wire::MessageType::kConnected) {
      count(core_.peer_counters(*handed.from).arrivals_accepted);
    }
    if (known && handed.pass_answer_on &&
        (type == wire::MessageType::kConnected || type == wire::MessageType::kRefused)) {
      reply(*handed.from, handed.id, type, static_cast<wire::Reason>(message.value().reason));
    }
  }
  forget(key);
}

void Arrivals::forget(std::uint64_t key) {
  const auto found = handed_.find(key);
  assert(found != handed_.end());
  core_.poller.remove(found->second.watch);
  found->second.rendezvous.hang_up();
  quota_.give_back(found->second.owner);
  handed_.erase(found);
}

void Arrivals::reply(Peer& to, std::uint64_t id, wire::MessageType type, wire::Reason reason) {
  wire::Message message;
  message.type = type;
  message.reason = static_cast<std::uint32_t>(reason);
  message.id = id;
  message.partition = core_.self.number;
  core_.post(to, message);  // if it is lost, the other driver's time limit answers its program
}

}  // namespace shunt::driver
