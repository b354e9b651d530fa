// StreamDoorbell: a byte stream between two drivers whose kernels share nothing but memory.
//
//   virtio:NAME       a guest's virtio-serial port of that name; QEMU joins two guests' ports by a socket
//   /dev/vport0p1     the same by its device file, e.g. /dev/virtio-ports/NAME
//   unix:PATH         connects there, and again after a hang-up (the host, beside QEMU's chardev)
//   listen:PATH       waits for one at a time there
//
// Any byte is a ring. What was opened is not yet there: a port knows whether a QEMU holds its other end, not
// whether a driver reads it. So each side rings once it is open, and again at each tick until it has heard
// the other; present() says that it has, since the last hang-up.
//
// Invariants: a hang-up is watched for once and then looked for at ticks only, ever more rarely up to a second,
// since poll() reports it for as long as it lasts. A peer that rings kVainMax times without anything in its
// lane is not listened to, and not present, until the next tick.
//
// Thread safety: one thread. Errors: the constructor throws WindowError for a spec that can never work;
// what may come later (no such port yet, nobody listening) is tried again at ticks and logged once.
#pragma once

#include <sys/un.h>

#include <cstdint>
#include <functional>
#include <string>

#include "driver/core/doorbell.h"
#include "driver/core/poller.h"
#include "window/unique_fd.h"

namespace shunt::driver {

class StreamDoorbell : public Doorbell {
 public:
  static constexpr std::uint32_t kVainMax = 1000;
  static constexpr std::uint32_t kTicksBetweenTries = 10;

  // `on_ring` runs for each batch of bytes. `peer`: for the log.
  StreamDoorbell(const std::string& spec, const std::string& peer, Poller& poller,
                 std::function<void()> on_ring);
  ~StreamDoorbell() override;

  bool present() const override { return open_ && heard_ && !muted_; }
  int ring() override;
  void tick() override;
  void drain() override;
  void had_news() override { vain_ = 0; }
  layout::DoorbellKind kind() const override;

 private:
  enum class How { kPort, kPortByName, kConnect, kListen };

  int try_open();  // errno
  int open_port();
  int connect_there();
  int accept_one();
  void listen();
  void begin();
  void watch();
  void on_events(std::uint32_t events);
  void hang_up();
  void greet();

  const std::string spec_;
  const std::string peer_;
  Poller& poller_;
  const std::function<void()> on_ring_;
  How how_ = How::kPort;
  std::string path_;  // or the port's name
  sockaddr_un address_{};

  window::UniqueFd listener_;
  window::UniqueFd fd_;  // of a port that was hung up, too
  Poller::Token watch_ = 0;
  bool open_ = false;
  bool heard_ = false;
  bool muted_ = false;
  bool ringing_ = false;  // there are bytes to take
  std::uint32_t events_ = 0;
  std::uint32_t vain_ = 0;
  std::uint32_t pause_ = 0;  // ticks until the next try
  std::uint32_t tries_ = 0;
  int logged_ = 0;  // errno
};

}  // namespace shunt::driver
