#include "driver/strangers/window_sockets.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "window/error.h"
#include "window/table_file.h"
#include "wire/partition_table.h"

namespace shunt::driver {
namespace {

constexpr int kBacklog = 1024;

[[noreturn]] void fail(const char* path, const char* what) {
  const int error = errno;
  const char* hint = error == EACCES || error == EPERM
                         ? "; the driver must run as the window's owner or as root"
                         : "";
  throw window::WindowError(
      fmt::format("cannot {} the socket {}: {}{}", what, path, std::strerror(error), hint));
}

window::UniqueFd bind_socket(int type, const window::Backing& backing, std::string_view partition,
                             std::string_view suffix, mode_t mode) {
  const auto named = wire::window_socket(backing.directory, partition, suffix);
  if (!named.ok()) {
    errno = named.error();
    fail(backing.directory.c_str(), "name");
  }
  const sockaddr_un& address = named.value();
  const char* path = address.sun_path;
  window::UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) fail(path, "make");
  if (::unlink(path) != 0 && errno != ENOENT) fail(path, "replace");
  // bind() makes the file with the descriptor's mode: nobody gets in before the mode is right.
  if (::fchmod(socket.get(), mode & 0600) != 0) fail(path, "protect");
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail(path, "bind");
  }
  // A driver that root started serves a window that may be somebody else's.
  if (::geteuid() == 0 && ::lchown(path, backing.owner, backing.group) != 0)
    fail(path, "give away");
  if (::chmod(path, mode) != 0) fail(path, "open");
  return socket;
}

}  // namespace

window::UniqueFd bind_driver_socket(const window::Backing& backing, std::string_view partition) {
  window::UniqueFd socket =
      bind_socket(SOCK_SEQPACKET, backing, partition, wire::kDriverSuffix, 0666);
  if (::listen(socket.get(), kBacklog) != 0) {
    fail(window::window_file(backing.directory, partition, wire::kDriverSuffix).c_str(),
         "listen on");
  }
  return socket;
}

window::UniqueFd bind_peer_socket(const window::Backing& backing, std::string_view partition) {
  window::UniqueFd socket = bind_socket(SOCK_DGRAM, backing, partition, wire::kPeerSuffix, 0600);
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
    fail(window::window_file(backing.directory, partition, wire::kPeerSuffix).c_str(),
         "ask for credentials on");
  }
  return socket;
}

void remove_sockets(const window::Backing& backing, std::string_view partition) {
  ::unlink(window::window_file(backing.directory, partition, wire::kDriverSuffix).c_str());
  ::unlink(window::window_file(backing.directory, partition, wire::kPeerSuffix).c_str());
}

}  // namespace shunt::driver
