// For tests: another local user beside a program of the provider, who binds rendezvous names, and a network
// namespace in which some addresses are local and some are not.
#pragma once

#include <sched.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "sockets/process/identity.h"
#include "sockets/testing/test_hostile.h"
#include "sockets/testing/test_plain.h"

namespace shunt::sockets {

inline constexpr uid_t kStrangerUid = 65534;

// What the calling thread, and no other, does meanwhile, it does as another user. Needs root.
class AsStranger {
 public:
  AsStranger() { become(kStrangerUid); }
  ~AsStranger() { become(0); }
  AsStranger(const AsStranger&) = delete;
  AsStranger& operator=(const AsStranger&) = delete;

 private:
  static void become(uid_t user) {
    EXPECT_EQ(0, sys::raw(SYS_setresuid, -1, user, -1));
    forget_user();
  }
};

inline sockaddr_in address_of(const wire::Endpoint& e) {
  sockaddr_storage storage;
  wire::to_sockaddr(e, AF_INET, &storage);
  sockaddr_in in{};
  std::memcpy(&in, &storage, sizeof in);
  return in;
}

// A rendezvous at the name of a listener at `at`, whoever that belongs to.
struct Squatter {
  int rendezvous = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::vector<int> fillers;

  explicit Squatter(const wire::Endpoint& at, int backlog = 10) {
    const wire::UnixName name = wire::rendezvous_name(at, false);
    EXPECT_EQ(0, ::bind(rendezvous, reinterpret_cast<const sockaddr*>(&name.address), name.length));
    EXPECT_EQ(0, ::listen(rendezvous, backlog));
  }
  // Connects to itself until its backlog is full.
  void fill(const wire::Endpoint& at) {
    const wire::UnixName name = wire::rendezvous_name(at, false);
    for (int r = 0; r == 0;) {
      fillers.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      r = ::connect(fillers.back(), reinterpret_cast<const sockaddr*>(&name.address), name.length);
    }
    EXPECT_EQ(EAGAIN, errno);
  }
  bool reached() const {
    pollfd p{rendezvous, POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
  }
  ~Squatter() {
    ::close(rendezvous);
    for (const int fd : fillers) ::close(fd);
  }
};

// Runs `body` in a thread with a network namespace of its own: 10.77.0.1 is local there, and all other addresses
// of 10.77.0.0/24 are behind a device. False: no right, or no tool, to make one.
template <typename Body>
bool in_own_namespace(Body body) {
  bool made = false;
  std::thread([&] {
    made = ::unshare(CLONE_NEWNET) == 0 &&
           std::system(
               "exec 2>/dev/null; ip link set lo up && ip link add sh0 type veth peer name sh1 && "
               "ip addr add 10.77.0.1/24 dev sh0 && ip link set sh0 up && ip link set sh1 up") == 0;
    if (made) body();
  }).join();
  return made;
}

// Of the calling thread's network namespace.
inline bool set_sysctl(const char* path, const char* value) {
  std::ofstream file(std::string("/proc/sys/") + path);
  file << value << std::flush;
  return file.good();
}

}  // namespace shunt::sockets
