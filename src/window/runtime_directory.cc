#include "window/runtime_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "window/crc32c.h"
#include "window/error.h"
#include "window/table_file.h"

namespace shunt::window {
namespace {

constexpr std::size_t kIdNameMax = 20;  // keeps the usual places below wire::kMaxWindowPath
constexpr const char* kSystemPlace = "/run/shunt";

[[noreturn]] void fail(const std::string& text) { throw WindowError(text); }

std::string device_path(const std::string& dir) {
  return fmt::format("{}/{}", dir, wire::kDeviceFile);
}

// "w.img-1a2b3c4d"
std::string id_of(const std::string& spec) {
  std::string tail = spec.substr(spec.rfind('/') + 1);
  if (tail.size() > kIdNameMax) tail.erase(0, tail.size() - kIdNameMax);
  for (char& c : tail) {
    if (c == ':') c = '-';
  }
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(spec.data());
  return fmt::format("{}-{:08x}", tail, crc32c(bytes, spec.size()));
}

// Also its parent, if that is the one thing missing.
void make_directory(const std::string& dir) {
  const std::string parent = dir.substr(0, dir.rfind('/'));
  for (const std::string& path : {parent, dir}) {
    if (::mkdir(path.c_str(), 0755) == 0) {
      ::chmod(path.c_str(), 0755);  // whatever the umask: programs of all users look for it
    } else if (errno != EEXIST) {
      fail(
          fmt::format("cannot make the directory {} for the driver's sockets: {}; name another "
                      "place in SHUNT_RUNTIME_DIR",
                      path, std::strerror(errno)));
    }
  }
  struct stat st {};
  if (::lstat(dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) ||
      (st.st_uid != ::geteuid() && st.st_uid != 0) || (st.st_mode & 022) != 0) {
    fail(
        fmt::format("{} is not a directory that only you or root can change; remove it, or name "
                    "another place in SHUNT_RUNTIME_DIR",
                    dir));
  }
}

void write_by_rename(const std::string& path, const void* bytes, std::size_t size) {
  std::string pattern = path + ".XXXXXX";
  const UniqueFd fd(::mkostemp(pattern.data(), O_CLOEXEC));
  const bool whole = fd && ::write(fd.get(), bytes, size) == static_cast<ssize_t>(size) &&
                     ::fchmod(fd.get(), 0644) == 0;
  if (whole && ::rename(pattern.c_str(), path.c_str()) == 0) return;
  const int error = errno;
  if (fd) ::unlink(pattern.c_str());
  fail(fmt::format("cannot write {}: {}", path, std::strerror(error)));
}

}  // namespace

std::string runtime_directory(const std::string& spec) {
  const std::string id = id_of(canonical_name(spec));
  const char* place = std::getenv("SHUNT_RUNTIME_DIR");
  if (place != nullptr && *place != '\0') return fmt::format("{}/{}", place, id);
  std::string system = fmt::format("{}/{}", kSystemPlace, id);
  const char* user = std::getenv("XDG_RUNTIME_DIR");
  if (::geteuid() == 0 || user == nullptr || *user == '\0' ||
      ::access(device_path(system).c_str(), F_OK) == 0) {
    return system;
  }
  return fmt::format("{}/shunt/{}", user, id);
}

void write_runtime_directory(const Backing& backing) {
  const std::string& dir = backing.directory;
  require_window_path(dir);
  make_directory(dir);
  wire::PartitionTable table = backing.table;
  table.flags = wire::kTableAreasFromDriver;
  table.area_map_bytes = backing.geometry.area_stride;
  const wire::TableBytes bytes = wire::encode_table(table);
  write_by_rename(device_path(dir), backing.spec.data(), backing.spec.size());
  // Last: a directory without a table is not a window.
  write_by_rename(window_file(dir, wire::kTableFile, ""), bytes.data(), bytes.size());
}

void remove_runtime_directory(const Backing& backing) {
  const std::string& dir = backing.directory;
  ::unlink(window_file(dir, wire::kTableFile, "").c_str());
  ::unlink(device_path(dir).c_str());
  for (std::uint32_t i = 0; i < backing.table.count; ++i) {
    for (const auto suffix : {wire::kDriverSuffix, wire::kPeerSuffix}) {
      ::unlink(window_file(dir, backing.table.partitions[i].name(), suffix).c_str());
    }
  }
  ::rmdir(dir.c_str());
}

std::optional<NamedDevice> device_of_runtime_directory(const std::string& dir) {
  const std::string path = device_path(dir);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat st {};
  struct stat dir_st {};
  if (!fd || ::fstat(fd.get(), &st) != 0 || ::stat(dir.c_str(), &dir_st) != 0 ||
      !S_ISREG(st.st_mode)) {
    return std::nullopt;
  }
  if (st.st_uid != dir_st.st_uid && st.st_uid != 0) {
    fail(fmt::format("{} is not a window to trust: {} belongs to uid {}, the directory to uid {}",
                     dir, path, st.st_uid, dir_st.st_uid));
  }
  std::array<char, PATH_MAX> text{};
  const ssize_t n = ::read(fd.get(), text.data(), text.size());
  NamedDevice named;
  named.spec.assign(text.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  named.owner = st.st_uid;
  named.group = st.st_gid;
  if (!names_device(named.spec)) {
    fail(fmt::format("{} was left by a driver for a window on '{}', which is not there any more",
                     dir, named.spec));
  }
  return named;
}

}  // namespace shunt::window
