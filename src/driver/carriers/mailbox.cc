#include "driver/carriers/mailbox.h"

#include <sys/socket.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "wire/partition_table.h"

namespace shunt::driver {
namespace {

constexpr int kDatagramsAtOnce = 256;

}  // namespace

Mailbox::Mailbox(Core& core, window::UniqueFd socket)
    : core_(core), own_(socket.release()), lines_(core.peers().size()) {
  if (core_.interrupt_mode()) {
    own_watch_ = core_.poller.add(own_.get(), EPOLLIN, [this](auto) { drain(); });
  }
}

Mailbox::~Mailbox() {
  core_.poller.remove(own_watch_);
  for (Line& l : lines_) core_.poller.remove(l.watch);
}

void Mailbox::take_descriptors(std::function<void(const Datagram&, Received&)> taker) {
  assert(!taker || !taker_);
  taker_ = std::move(taker);
}

void Mailbox::drain() {
  for (int i = 0; i < kDatagramsAtOnce && receive_one(); ++i) {
  }
}

bool Mailbox::receive_one() {
  Datagram datagram;
  Received received =
      receive_with_fds(own_.get(), {reinterpret_cast<std::uint8_t*>(&datagram), sizeof datagram});
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
      received.fds.size() == 2 && taker_) {
    taker_(datagram, received);
    return true;
  }
  count(core_.counters().datagrams_bad);
  return true;
}

int Mailbox::connect(const Peer& to) {
  const auto address = wire::window_socket(core_.backing.directory, to.name(), wire::kPeerSuffix);
  if (!address.ok()) return address.error();
  Line& l = line(to);
  core_.poller.remove(std::exchange(l.watch, 0));  // before its descriptor is closed
  l.socket.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!l.socket) return errno;
  if (::connect(l.socket.get(), reinterpret_cast<const sockaddr*>(&address.value()),
                sizeof address.value()) == 0) {
    watch(l);
    return 0;
  }
  const int error = errno;
  l.socket.reset();
  return error;
}

int Mailbox::send(const Peer& to, const Datagram& datagram, std::span<const int> fds) {
  const std::span bytes(reinterpret_cast<const std::uint8_t*>(&datagram), sizeof datagram);
  if (line(to).socket) {
    const int error = send_with_fds(line(to).socket.get(), bytes, fds);
    // The driver at the other end of this socket is gone; another may listen at the name.
    if (error != ECONNREFUSED && error != ENOTCONN && error != ECONNRESET) return error;
  }
  if (const int error = connect(to); error != 0) return error;
  return send_with_fds(line(to).socket.get(), bytes, fds);
}

bool Mailbox::reach(const Peer& to) { return connected(to) || connect(to) == 0; }

bool Mailbox::connected(const Peer& to) const { return lines_[to.number() - 1].socket.valid(); }

void Mailbox::call_when_writable(const Peer& to, std::function<void()> callback) {
  Line& l = line(to);
  l.writable = std::move(callback);
  if (!l.writable) {
    core_.poller.remove(std::exchange(l.watch, 0));
  } else if (l.watch == 0) {
    watch(l);
  }
}

void Mailbox::watch(Line& l) {
  assert(l.watch == 0);
  if (!l.socket || !l.writable) return;
  l.watch = core_.poller.add(l.socket.get(), EPOLLOUT, [&l](std::uint32_t) {
    const auto callback = l.writable;  // it may replace itself
    if (callback) callback();
  });
}

}  // namespace shunt::driver
