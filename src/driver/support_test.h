// What the driver's tests are made of: a window with made-up addresses, drivers as processes, a
// program that asks for a connection and a listener that gets it, both speaking the protocol by hand.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/core/options.h"
#include "driver/strangers/pass_fds.h"
#include "layout/area.h"
#include "window/status.h"
#include "window/table_file.h"
#include "window/unique_fd.h"
#include "wire/message.h"
#include "wire/reason.h"

namespace shunt::driver {

inline constexpr char kAddressA[] = "127.0.1.1";
inline constexpr char kAddressB[] = "127.0.2.1";
inline constexpr char kAddressC[] = "127.0.3.1";

wire::Endpoint endpoint(const char* address, std::uint16_t port);

// Looks again and again; false after 20 s.
bool eventually(const std::function<bool()>& condition);

class DriverProcess {
 public:
  // Returns when the driver says that it is ready; pid() < 0 if it does not.
  DriverProcess(const std::string& window, const std::string& partition, layout::NotifyMode notify,
                const std::vector<std::string>& more = {});
  ~DriverProcess();
  pid_t pid() const { return pid_; }
  void signal(int number) const;
  int wait();        // the wait status
  int stop();        // SIGTERM, then wait()
  void kill_hard();  // SIGKILL, then wait()

 private:
  pid_t pid_ = -1;
};

struct Outcome {
  int status;          // exit status
  std::string errors;  // what it said on stderr
};
Outcome run_shuntd(const std::vector<std::string>& arguments);

// A TCP socket, bound if `address` is given.
window::UniqueFd tcp_socket(const char* address);
std::uint16_t port_of(int socket);

// A mapped area, or nothing.
class FakeArea {
 public:
  FakeArea() = default;
  FakeArea(int fd, const wire::Location& where);
  FakeArea(FakeArea&& other) noexcept;
  FakeArea& operator=(FakeArea&& other) noexcept;
  ~FakeArea();
  layout::Area* get() const { return area_; }
  layout::Area* operator->() const { return area_; }

 private:
  layout::Area* area_ = nullptr;
  std::size_t bytes_ = 0;
};

// What became of a bell by now, as the program at this end sees it.
struct BellNews {
  std::optional<wire::Message> message;  // what is first on it, if that is no ring
  FakeArea area;                         // of the message
  int rings = 0;
  bool ended = false;
};
// Reads what comes until `enough` says so, at most the usual patience.
BellNews read_bell(int bell, const std::function<bool(const BellNews&)>& enough);
void ring_bell(int bell);

// A program of partition a. `dir`: where the driver's socket is. On a device its area is the driver's choice and comes
// with the verdict.
class FakeProgram {
 public:
  FakeProgram(const std::string& dir, const std::string& partition = "a");

  window::UniqueFd socket;    // to the driver
  window::UniqueFd area;      // a memfd; none on a device
  FakeArea own;               // on a device, once the request is queued
  window::UniqueFd reserved;  // bound to 127.0.1.1
  window::UniqueFd bell;      // our end
  window::UniqueFd far_bell;  // the end that is sent

  wire::Message request(const wire::Endpoint& destination) const;
  void send(const wire::Message& message);
  // The driver's answer, nullopt when it closes without one.
  std::optional<wire::Message> verdict();
  // send + verdict; ~0 when there is none.
  std::uint32_t ask(const wire::Endpoint& destination);

 private:
  bool on_device_ = false;
};
inline constexpr std::uint32_t kQueued = 0;

// A listener of partition b: TCP and the rendezvous name.
class FakeListener {
 public:
  explicit FakeListener(const char* address = kAddressB, int backlog = 512);
  struct Arrived {
    window::UniqueFd rendezvous;
    wire::Message connect;
    std::vector<window::UniqueFd> fds;
    int bell() const { return fds.at(1).get(); }
    // On a device: the areas of this program and of the other one.
    FakeArea own() const;
    FakeArea peer() const;
  };
  Arrived accept();

  window::UniqueFd tcp;
  window::UniqueFd rendezvous;
  wire::Endpoint address;
};
window::UniqueFd listen_at_rendezvous(const wire::Endpoint& address, int backlog);

// Whether the two are each other's ends: accepts, and has either end hear the other.
void expect_joined(FakeProgram& program, FakeListener::Arrived& arrived);
void accept_on_bell(const FakeListener::Arrived& arrived);

void send_message(int socket, const wire::Message& message);
std::string read_bytes(int socket, std::size_t size);

enum class Kind { kDirectory, kDevice };

class WindowFixture : public ::testing::Test {
 protected:
  void SetUp() override { make_window(Kind::kDirectory); }
  void TearDown() override;
  // `areas`, `section_bytes`: on a device.
  void make_window(Kind kind, std::uint32_t areas = 64,
                   std::uint64_t section_bytes = window::kSectionBytesDefault);
  window::PartitionStatus status(std::uint32_t number) const;
  const window::PeerStatus& peer_status(const window::PartitionStatus& of,
                                        const std::string& name) const;
  bool exists(const std::string& file) const;

  std::string base;
  std::string spec;  // what a driver is started with
  std::string dir;   // where its sockets are
};

struct Setting {
  Kind kind;
  layout::NotifyMode notify;
};
class EachSetting : public WindowFixture, public ::testing::WithParamInterface<Setting> {
 protected:
  void SetUp() override { make_window(GetParam().kind, 300); }
  bool on_device() const { return GetParam().kind == Kind::kDevice; }
  std::unique_ptr<DriverProcess> start(const std::string& partition,
                                       const std::vector<std::string>& more = {}) {
    return std::make_unique<DriverProcess>(spec, partition, GetParam().notify, more);
  }
};
std::string setting_name(const ::testing::TestParamInfo<Setting>& info);

}  // namespace shunt::driver
