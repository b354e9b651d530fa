#include "driver/doorbells/stream_doorbell.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

#include "window/error.h"

namespace shunt::driver {
namespace {

constexpr const char* kPorts = "/sys/class/virtio-ports";

bool take_prefix(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

sockaddr_un address_of(const std::string& spec, const std::string& path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw window::WindowError(fmt::format("doorbell {}: a socket's path has 1 to {} characters",
                                          spec, sizeof address.sun_path - 1));
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// The device file of the virtio-serial port with this name; "" if there is none by now.
std::string find_port(const std::string& name) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(kPorts, error)) {
    std::string line;
    std::ifstream(entry.path() / "name") >> line;
    if (line == name) return "/dev/" + entry.path().filename().string();
  }
  return "";
}

bool hung_up(int fd) {
  pollfd p{fd, POLLIN, 0};
  return ::poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace

StreamDoorbell::StreamDoorbell(const std::string& spec, const std::string& peer, Poller& poller,
                               std::function<void()> on_ring)
    : spec_(spec), peer_(peer), poller_(poller), on_ring_(std::move(on_ring)) {
  std::string_view rest = spec_;
  if (take_prefix(&rest, "unix:")) {
    how_ = How::kConnect;
  } else if (take_prefix(&rest, "listen:")) {
    how_ = How::kListen;
  } else if (take_prefix(&rest, "virtio:")) {
    how_ = How::kPortByName;
  } else if (!rest.starts_with('/')) {
    throw window::WindowError(fmt::format(
        "doorbell {}: not virtio:NAME, unix:PATH, listen:PATH, vfio:DDDD:BB:DD.F, or the "
        "path of a virtio-serial port",
        spec_));
  }
  path_ = rest;
  if (how_ == How::kConnect || how_ == How::kListen) address_ = address_of(spec_, path_);
  if (how_ == How::kListen) listen();
  struct stat s {};
  if (how_ == How::kPort && ::stat(path_.c_str(), &s) == 0 && !S_ISCHR(s.st_mode)) {
    throw window::WindowError(fmt::format("doorbell {}: not a virtio-serial port", spec_));
  }
  tick();
}

StreamDoorbell::~StreamDoorbell() {
  poller_.remove(watch_);
  if (listener_) ::unlink(path_.c_str());
}

layout::DoorbellKind StreamDoorbell::kind() const {
  return how_ == How::kPort || how_ == How::kPortByName ? layout::DoorbellKind::kVirtioSerial
                                                        : layout::DoorbellKind::kSocket;
}

// Whoever listened here and was killed has left the file; whoever listens now keeps it.
void StreamDoorbell::listen() {
  const auto* address = reinterpret_cast<const sockaddr*>(&address_);
  const auto fail = [this] {
    throw window::WindowError(
        fmt::format("doorbell {}: cannot listen there: {}", spec_, std::strerror(errno)));
  };
  const window::UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), address, sizeof address_) != 0 && errno == ECONNREFUSED) {
    ::unlink(path_.c_str());
  }
  window::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // bind() makes the file with the descriptor's mode.
  if (!socket || ::fchmod(socket.get(), 0600) != 0 ||
      ::bind(socket.get(), address, sizeof address_) != 0) {
    fail();
  }
  listener_ = std::move(socket);
  if (::listen(listener_.get(), 8) != 0) fail();
}

int StreamDoorbell::open_port() {
  const std::string path = how_ == How::kPort ? path_ : find_port(path_);
  if (path.empty()) return ENOENT;
  if (!fd_) fd_.reset(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!fd_) return errno;
  // Kept open: a port that is closed tells the other side so, which would see it come and go.
  return hung_up(fd_.get()) ? ENOTCONN : 0;
}

int StreamDoorbell::connect_there() {
  window::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno;
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof address_) != 0) {
    return errno;
  }
  fd_ = std::move(socket);
  return 0;
}

int StreamDoorbell::accept_one() {
  fd_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  return fd_ ? 0 : errno;
}

int StreamDoorbell::try_open() {
  switch (how_) {
    case How::kPort:
    case How::kPortByName:
      return open_port();
    case How::kConnect:
      return connect_there();
    case How::kListen:
      return accept_one();
  }
  return EINVAL;
}

void StreamDoorbell::tick() {
  vain_ = 0;
  if (std::exchange(muted_, false)) watch();
  if (open_) {
    if (!heard_) greet();
    return;
  }
  // A listener has nothing to pause for: accept() costs nothing, and its peer waits.
  if (pause_ > 0 && how_ != How::kListen) {
    --pause_;
    return;
  }
  const int error = try_open();
  if (error == 0) {
    begin();
    return;
  }
  tries_ = std::min(tries_ + 1, kTicksBetweenTries);
  pause_ = tries_ - 1;
  if (error == EAGAIN || std::exchange(logged_, error) == error) return;
  spdlog::warn("doorbell {} of partition '{}' is not there: {}; it will be tried again", spec_,
               peer_, std::strerror(error));
}

void StreamDoorbell::begin() {
  assert(!open_ && fd_ && watch_ == 0);
  open_ = true;
  heard_ = false;
  pause_ = tries_ = 0;
  logged_ = 0;
  watch();
  greet();
}

void StreamDoorbell::watch() {
  if (!open_ || watch_ != 0) return;
  watch_ = poller_.add(fd_.get(), EPOLLIN, [this](std::uint32_t events) { on_events(events); });
}

void StreamDoorbell::greet() { ring(); }

int StreamDoorbell::ring() {
  if (!open_) return ENOTCONN;
  assert(fd_);
  const char byte = 1;
  // A port is no socket; shuntd ignores SIGPIPE.
  const ssize_t n = kind() == layout::DoorbellKind::kSocket
                        ? ::send(fd_.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT)
                        : ::write(fd_.get(), &byte, 1);
  if (n == 1) return 0;
  return n < 0 ? errno : EAGAIN;
}

void StreamDoorbell::on_events(std::uint32_t events) {
  ringing_ = true;
  events_ = events;
  if (!heard_ || (events & ~EPOLLIN) != 0) drain();
}

void StreamDoorbell::drain() {
  if (!std::exchange(ringing_, false) || !open_) return;
  const std::uint32_t events = events_;
  std::array<char, 512> bytes;
  const ssize_t n = ::read(fd_.get(), bytes.data(), bytes.size());
  if (n > 0) {
    if (!std::exchange(heard_, true)) {
      spdlog::info("doorbell {} of partition '{}' is there", spec_, peer_);
      greet();  // it may have started after our last one
    }
    on_ring_();
    if (++vain_ <= kVainMax) return;
    muted_ = true;
    poller_.remove(std::exchange(watch_, 0));
    return;
  }
  const bool nothing = n < 0 && (errno == EAGAIN || errno == EINTR);
  if (!nothing || (events & (EPOLLHUP | EPOLLERR)) != 0) hang_up();
}

void StreamDoorbell::hang_up() {
  assert(open_);
  if (heard_) spdlog::info("doorbell {} of partition '{}' is gone", spec_, peer_);
  poller_.remove(std::exchange(watch_, 0));
  open_ = heard_ = muted_ = false;
  if (how_ == How::kConnect || how_ == How::kListen) fd_.reset();
}

}  // namespace shunt::driver
