// What the driver's tests are made of: a window with made-up addresses, drivers as processes, a
// program that asks for a connection and a listener that gets it, both speaking the protocol by hand.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/options.h"
#include "driver/pass_fds.h"
#include "window/status.h"
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
  DriverProcess(const std::string& window, const std::string& partition, layout::NotifyMode notify);
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

// A program of partition a.
class FakeProgram {
 public:
  FakeProgram(const std::string& window, const std::string& partition = "a");

  window::UniqueFd socket;    // to the driver
  window::UniqueFd area;      // a memfd
  window::UniqueFd reserved;  // bound to 127.0.1.1
  window::UniqueFd bell;      // our end
  window::UniqueFd far_bell;  // the end that is sent

  wire::Message request(const wire::Endpoint& destination) const;
  void send(const wire::Message& message);
  // The driver's answer, nullopt when it closes without one.
  std::optional<wire::Message> verdict();
  // send + verdict; ~0 when there is none.
  std::uint32_t ask(const wire::Endpoint& destination);
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
  };
  Arrived accept();

  window::UniqueFd tcp;
  window::UniqueFd rendezvous;
  wire::Endpoint address;
};
window::UniqueFd listen_at_rendezvous(const wire::Endpoint& address, int backlog);

void send_message(int socket, const wire::Message& message);
std::string read_bytes(int socket, std::size_t size);

class WindowFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  window::PartitionStatus status(std::uint32_t number) const;
  const window::PeerStatus& peer_status(const window::PartitionStatus& of,
                                        const std::string& name) const;
  bool exists(const std::string& file) const;

  std::string base;
  std::string dir;
};

class EachMode : public WindowFixture, public ::testing::WithParamInterface<layout::NotifyMode> {
 protected:
  std::unique_ptr<DriverProcess> start(const std::string& partition) {
    return std::make_unique<DriverProcess>(dir, partition, GetParam());
  }
};
std::string mode_name(const ::testing::TestParamInfo<layout::NotifyMode>& info);

}  // namespace shunt::driver
