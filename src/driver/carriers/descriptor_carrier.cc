#include "driver/carriers/descriptor_carrier.h"

#include <array>
#include <cassert>
#include <utility>

#include "driver/strangers/source_check.h"

namespace shunt::driver {

DescriptorCarrier::DescriptorCarrier(Core& core, Mailbox& mailbox)
    : Carrier({.descriptors = 3, .reservation = 1}),  // area, reservation, bell
      core_(core),
      mailbox_(mailbox) {
  mailbox_.take_descriptors([this](const Datagram& d, Received& r) { stash(d, r); });
}

DescriptorCarrier::~DescriptorCarrier() { mailbox_.take_descriptors(nullptr); }

bool DescriptorCarrier::sound(const wire::Message& connect, const Received& received) const {
  return connect.area.object == wire::kObjectDescriptor && is_bell(received.fds[2].get());
}

wire::Reason DescriptorCarrier::admit(std::uint64_t id, Peer&, const ucred&, Received& received,
                                      wire::Message*) {
  assert(received.fds.size() == descriptors() && !admitted_.contains(id));
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

// The program has its area, and of the peer's it is told on the bell.
bool DescriptorCarrier::complete([[maybe_unused]] std::uint64_t id, wire::Message*,
                                 window::UniqueFd*) {
  assert(!admitted_.contains(id));  // dispatched
  return true;
}

void DescriptorCarrier::abandon(std::uint64_t id) { admitted_.erase(id); }

void DescriptorCarrier::stash(const Datagram& datagram, Received& received) {
  assert(received.fds.size() == 2);
  if (stash_.size() >= kStashMax) {
    count(core_.counters().fds_dropped);
    stash_.pop_front();
  }
  stash_.push_back({datagram.partition,
                    datagram.generation,
                    datagram.id,
                    Clock::now() + core_.options.request_limit,
                    {std::move(received.fds[0]), std::move(received.fds[1])}});
  assert(stash_.size() <= kStashMax);
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
  out->pass_answer_on = true;
  return wire::Reason::kNone;
}

void DescriptorCarrier::handed(Peer& from, std::uint64_t id, bool done) {
  if (!done) take(from, id);
}

void DescriptorCarrier::check(Clock::time_point now) {
  while (!stash_.empty() && now >= stash_.front().deadline) {
    count(core_.counters().fds_dropped);
    stash_.pop_front();
  }
}

}  // namespace shunt::driver
