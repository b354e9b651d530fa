#include "driver/arrivals.h"

#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "driver/rendezvous.h"
#include "window/address.h"

namespace shunt::driver {
namespace {

constexpr int kDatagramsAtOnce = 256;

}  // namespace

Arrivals::Arrivals(Core& core, window::UniqueFd peer_socket)
    : core_(core), socket_(std::move(peer_socket)), listeners_(&core.section()) {
  if (core_.interrupt_mode()) {
    socket_watch_ = core_.poller.add(socket_.get(), EPOLLIN, [this](auto) { drain_socket(); });
  }
}

Arrivals::~Arrivals() {
  core_.poller.remove(socket_watch_);
  for (auto& [key, handed] : handed_) core_.poller.remove(handed.watch);
}

void Arrivals::drain_socket() {
  for (int i = 0; i < kDatagramsAtOnce && receive_one(); ++i) {
  }
}

bool Arrivals::receive_one() {
  Datagram datagram;
  Received received = receive_with_fds(
      socket_.get(), {reinterpret_cast<std::uint8_t*>(&datagram), sizeof datagram});
  if (received.error != 0) return received.error != EAGAIN;
  const bool sound = !received.cut && received.size == sizeof datagram && received.sender &&
                     (received.sender->uid == core_.backing.owner || received.sender->uid == 0) &&
                     datagram.magic == kDatagramMagic && core_.peer(datagram.partition) != nullptr;
  if (sound && datagram.kind == static_cast<std::uint32_t>(DatagramKind::kDoorbell) &&
      received.fds.empty()) {
    count(core_.counters().doorbells_received);
    return true;
  }
  if (sound && datagram.kind == static_cast<std::uint32_t>(DatagramKind::kDescriptors) &&
      received.fds.size() == 2) {
    stash(datagram, received);
    return true;
  }
  count(core_.counters().datagrams_bad);
  return true;
}

void Arrivals::stash(const Datagram& datagram, Received& received) {
  if (stash_.size() >= kStashMax) {
    count(core_.counters().fds_dropped);
    stash_.pop_front();
  }
  stash_.push_back({datagram.partition, datagram.generation, datagram.id,
                    Clock::now() + core_.options.request_limit, std::move(received.fds[0]),
                    std::move(received.fds[1])});
}

bool Arrivals::take(const Peer& from, std::uint64_t id, Stashed* out) {
  for (auto s = stash_.begin(); s != stash_.end(); ++s) {
    if (s->partition != from.number() || s->id != id || s->generation != from.generation()) {
      continue;
    }
    *out = std::move(*s);
    stash_.erase(s);
    return true;
  }
  return false;
}

void Arrivals::on_connect(Peer& from, const wire::Message& message) {
  count(core_.peer_counters(from).arrivals);
  Stashed fds{};
  // The sender passes the descriptors before the CONNECT: they are here by now.
  bool found = take(from, message.id, &fds);
  if (!found) {
    drain_socket();
    found = take(from, message.id, &fds);
  }
  wire::Reason reason = wire::Reason::kNone;
  if (!found || message.flags != 0 || message.partition != from.number()) {
    reason = wire::Reason::kRefused;
  } else if (!from.owns(message.source) || message.source.port == 0) {
    reason = wire::Reason::kBadSource;
  } else if (!core_.self.owns(message.destination) || message.destination.port == 0) {
    reason = wire::Reason::kNotInWindow;
  } else {
    reason = hand_over(from, message, fds);
  }
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

wire::Reason Arrivals::hand_over(Peer& from, const wire::Message& message, const Stashed& fds) {
  if (handed_.size() >= kHandedMax) return wire::Reason::kBacklogFull;
  Rendezvous rendezvous = open_rendezvous(message.destination);
  if (rendezvous.reason != wire::Reason::kNone) return rendezvous.reason;
  wire::Message connect = message;
  connect.flags = wire::kViaDriver;
  connect.id = 0;
  const std::array<int, 2> passed{fds.area.get(), fds.bell.get()};
  const int error = send_with_fds(rendezvous.socket.get(), wire::encode(connect), passed);
  if (error != 0) {
    // A listener that closes just now is no listener; anything else is a lack of resources.
    return error == EPIPE || error == ECONNRESET ? wire::Reason::kNoListener
                                                 : wire::Reason::kNoMemory;
  }
  const std::uint64_t key = next_key_++;
  Handed& handed = handed_[key];
  handed.rendezvous = std::move(rendezvous.socket);
  handed.from = &from;
  handed.from_generation = from.generation();
  handed.id = message.id;
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
    if (known && (type == wire::MessageType::kConnected || type == wire::MessageType::kRefused)) {
      reply(*handed.from, handed.id, type, static_cast<wire::Reason>(message.value().reason));
    }
  }
  core_.poller.remove(handed.watch);
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

void Arrivals::check(Clock::time_point now) {
  if (!core_.interrupt_mode()) drain_socket();
  while (!stash_.empty() && now >= stash_.front().deadline) {
    count(core_.counters().fds_dropped);
    stash_.pop_front();
  }
}

}  // namespace shunt::driver
