#include "driver/peer.h"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/untrusted.h"
#include "driver/pass_fds.h"

namespace shunt::driver {
namespace {

constexpr std::chrono::seconds kStalledAfter{2};

}  // namespace

Peer::Peer(const window::Backing& backing, const wire::Partition& partition, layout::Section* own,
           Poller& poller)
    : directory_(backing.directory),
      partition_(partition),
      file_(backing, partition, window::Access::kReadOnly),
      reader_(own, file_.section(), partition.number, file_.geometry()),
      poller_(poller) {}

Peer::~Peer() { poller_.remove(watch_); }

std::uint64_t Peer::generation() const {
  return Untrusted(section()->header.life.generation).copy_acquire();
}

bool Peer::up(Clock::time_point now) {
  const layout::SectionLife& life = section()->header.life;
  // Acquire: a driver that says it is up has emptied its lanes before.
  const auto state = Untrusted(life.state).copy_acquire();
  if (state != static_cast<std::uint32_t>(layout::DriverState::kUp) || !file_.locked()) {
    return false;
  }
  const std::uint64_t heartbeat = Untrusted(life.heartbeat).copy();
  if (heartbeat != heartbeat_ || heartbeat_seen_ == Clock::time_point{}) {
    heartbeat_ = heartbeat;
    heartbeat_seen_ = now;
  }
  return now - heartbeat_seen_ < kStalledAfter;
}

std::uint32_t Peer::sleeping() const { return Untrusted(section()->header.sleep.sleeping).copy(); }

int Peer::connect_socket() {
  const auto address = wire::window_socket(directory_, partition_.name(), wire::kPeerSuffix);
  if (!address.ok()) return address.error();
  poller_.remove(std::exchange(watch_, 0));  // before its descriptor is closed
  socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_) return errno;
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address.value()),
                sizeof address.value()) == 0) {
    watch_socket();
    return 0;
  }
  const int error = errno;
  socket_.reset();
  return error;
}

int Peer::send(const Datagram& datagram, std::span<const int> fds) {
  const std::span bytes(reinterpret_cast<const std::uint8_t*>(&datagram), sizeof datagram);
  if (socket_) {
    const int error = send_with_fds(socket_.get(), bytes, fds);
    // The driver at the other end of this socket is gone; another may listen at the name.
    if (error != ECONNREFUSED && error != ENOTCONN && error != ECONNRESET) return error;
  }
  if (const int error = connect_socket(); error != 0) return error;
  return send_with_fds(socket_.get(), bytes, fds);
}

void Peer::call_when_writable(std::function<void()> callback) {
  writable_ = std::move(callback);
  if (!writable_) {
    poller_.remove(std::exchange(watch_, 0));
  } else if (watch_ == 0) {
    watch_socket();
  }
}

void Peer::watch_socket() {
  if (!socket_ || !writable_) return;
  watch_ = poller_.add(socket_.get(), EPOLLOUT, [this](std::uint32_t) {
    const auto callback = writable_;  // it may replace itself
    if (callback) callback();
  });
}

}  // namespace shunt::driver
