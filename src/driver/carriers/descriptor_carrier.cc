#include "driver/carriers/descriptor_carrier.h"

#include <array>
#include <utility>

#include "driver/strangers/source_check.h"

namespace shunt::driver {

DescriptorCarrier::DescriptorCarrier(Core& core, Mailbox& mailbox)
    : core_(core), mailbox_(mailbox) {
  mailbox_.take_descriptors([this](const Datagram& d, Received& r) { stash(d, r); });
}

DescriptorCarrier::~DescriptorCarrier() {
  mailbox_.take_descriptors(nullptr);
  for (const auto& peer : core_.peers()) {
    if (peer) mailbox_.call_when_writable(*peer, nullptr);
  }
}

bool DescriptorCarrier::sound(const wire::Message& connect, const Received& received) const {
  return connect.area.object == wire::kObjectDescriptor && is_bell(received.fds[2].get());
}

wire::Reason DescriptorCarrier::admit(std::uint64_t id, Peer&, const ucred&, Received& received,
                                      wire::Message*) {
  admitted_[id] = {std::move(received.fds[0]), std::move(received.fds[2])};
  return wire::Reason::kNone;
}

int DescriptorCarrier::dispatch(std::uint64_t id, Peer& to) {
  // The descriptors go before the CONNECT, so that whoever finds the CONNECT finds them too.
  const Descriptors& fds = admitted_.at(id);
  Datagram datagram;
  datagram.kind = static_cast<std::uint32_t>(DatagramKind::kDescriptors);
  datagram.partition = core_.self.number;
  datagram.generation = core_.generation();
  datagram.id = id;
  const std::array<int, 2> passed{fds.area.get(), fds.bell.get()};
  const int error = mailbox_.send(to, datagram, passed);
  if (error == 0) admitted_.erase(id);
  return error;
}

void DescriptorCarrier::when_writable(Peer& to, std::function<void()> callback) {
  mailbox_.call_when_writable(to, std::move(callback));
}

bool DescriptorCarrier::complete(std::uint64_t, wire::Message*, window::UniqueFd*) { return true; }

void DescriptorCarrier::abandon(std::uint64_t id) { admitted_.erase(id); }

// The two programs have each other's descriptors: what becomes of their connection is not heard here.
void DescriptorCarrier::on_connected(Peer&, const wire::Message&) {}
void DescriptorCarrier::on_refused(Peer&, std::uint64_t) {}
void DescriptorCarrier::on_peer_gone(Peer&) {}
void DescriptorCarrier::when_withdrawn(std::function<void(std::uint32_t, std::uint64_t)>) {}

void DescriptorCarrier::on_notices(Peer&, const wire::Message&) {
  count(core_.counters().messages_bad);
}

void DescriptorCarrier::stash(const Datagram& datagram, Received& received) {
  if (stash_.size() >= kStashMax) {
    count(core_.counters().fds_dropped);
    stash_.pop_front();
  }
  stash_.push_back({datagram.partition,
                    datagram.generation,
                    datagram.id,
                    Clock::now() + core_.options.request_limit,
                    {std::move(received.fds[0]), std::move(received.fds[1])}});
}

std::optional<DescriptorCarrier::Descriptors> DescriptorCarrier::find_stashed(const Peer& from,
                                                                              std::uint64_t id) {
  for (auto s = stash_.begin(); s != stash_.end(); ++s) {
    if (s->partition != from.number() || s->id != id || s->generation != from.generation()) {
      continue;
    }
    std::optional<Descriptors> fds = std::move(s->fds);
    stash_.erase(s);
    return fds;
  }
  return std::nullopt;
}

std::optional<DescriptorCarrier::Descriptors> DescriptorCarrier::take(const Peer& from,
                                                                      std::uint64_t id) {
  // The sender passes the descriptors before the CONNECT: they are here, or in the socket.
  auto fds = find_stashed(from, id);
  if (fds) return fds;
  mailbox_.drain();
  return find_stashed(from, id);
}

wire::Reason DescriptorCarrier::arrive(Peer& from, const wire::Message& connect, uid_t,
                                       Handover* out) {
  auto fds = take(from, connect.id);
  if (!fds) return wire::Reason::kRefused;
  out->connect = connect;
  out->sent.push_back(std::move(fds->area));
  out->sent.push_back(std::move(fds->bell));
  return wire::Reason::kNone;
}

void DescriptorCarrier::handed(Peer& from, std::uint64_t id, bool done) {
  if (!done) take(from, id);
}

std::chrono::microseconds DescriptorCarrier::flush(Clock::time_point) { return Poller::kForever; }

void DescriptorCarrier::check(Clock::time_point now) {
  while (!stash_.empty() && now >= stash_.front().deadline) {
    count(core_.counters().fds_dropped);
    stash_.pop_front();
  }
}

}  // namespace shunt::driver
