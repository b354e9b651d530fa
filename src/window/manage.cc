#include "window/manage.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "layout/section.h"
#include "window/error.h"
#include "window/section_file.h"
#include "window/table_file.h"
#include "window/trust.h"
#include "window/unique_fd.h"

namespace shunt::window {
namespace {

std::vector<std::string> list_directory(const std::string& dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> d(::opendir(dir.c_str()), ::closedir);
  if (!d) throw WindowError(fmt::format("cannot read {}: {}", dir, std::strerror(errno)));
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(d.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  return names;
}

// Remembers what was made and removes it again unless commit() is called.
class Undo {
 public:
  ~Undo() {
    for (auto f = files_.rbegin(); f != files_.rend(); ++f) ::unlink(f->c_str());
    if (!directory_.empty()) ::rmdir(directory_.c_str());
  }
  void made_directory(const std::string& path) { directory_ = path; }
  void made_file(const std::string& path) { files_.push_back(path); }
  void commit() {
    files_.clear();
    directory_.clear();
  }

 private:
  std::string directory_;
  std::vector<std::string> files_;
};

void make_directory(const std::string& dir, Undo* undo) {
  if (::mkdir(dir.c_str(), 0755) == 0) {
    undo->made_directory(dir);
    if (::chmod(dir.c_str(), 0755) == 0) return;  // whatever the umask: providers read the table
    throw WindowError(fmt::format("cannot open {} to readers: {}", dir, std::strerror(errno)));
  }
  if (errno != EEXIST) {
    throw WindowError(
        fmt::format("cannot make the window directory {}: {}", dir, std::strerror(errno)));
  }
  struct stat st {};
  if (::stat(dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode)) {
    throw WindowError(fmt::format("cannot make a window at {}: it is not a directory", dir));
  }
  if (!list_directory(dir).empty()) {
    throw WindowError(
        fmt::format("cannot make a window at {}: the directory exists and is not "
                    "empty; choose another, or `shunt window destroy {}` if it is a "
                    "window",
                    dir, dir));
  }
}

[[noreturn]] void fail_allocate(const std::string& path, std::uint64_t bytes, int error) {
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    struct statvfs fs {};
    const bool known = ::statvfs(path.c_str(), &fs) == 0;
    throw WindowError(fmt::format(
        "no space left for {}: it needs {} bytes and the file system has {}; give a smaller --size "
        "or another directory",
        path, bytes, known ? fmt::format("{}", fs.f_bavail * fs.f_frsize) : "less"));
  }
  throw WindowError(fmt::format("cannot allocate {}: {}", path, std::strerror(error)));
}

// A new file of `bytes` allocated bytes that begins with `content`.
void make_file(const std::string& path, mode_t mode, std::uint64_t bytes, const void* content,
               std::size_t content_bytes, Undo* undo) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd) throw WindowError(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
  undo->made_file(path);
  if (::fchmod(fd.get(), mode) != 0) fail_allocate(path, bytes, errno);
  const int error = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  if (error != 0) fail_allocate(path, bytes, error);
  const ssize_t written = ::pwrite(fd.get(), content, content_bytes, 0);
  if (written != static_cast<ssize_t>(content_bytes)) {
    fail_allocate(path, bytes, written < 0 ? errno : ENOSPC);
  }
}

// Does not look at the content: a damaged section can be removed too, a missing one is no matter.
UniqueFd lock_for_removal(const std::string& dir, const wire::Partition& p) {
  const std::string path = window_file(dir, p.name(), wire::kSectionSuffix);
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    if (errno == ENOENT) return fd;
    throw WindowError(fmt::format("window {} is not destroyed: cannot open {}: {}", dir, path,
                                  std::strerror(errno)));
  }
  if (try_lock(fd.get())) return fd;
  std::uint32_t pid = 0;
  constexpr off_t kAtPid =
      offsetof(layout::SectionHeader, life) + offsetof(layout::SectionLife, pid);
  if (::pread(fd.get(), &pid, sizeof pid, kAtPid) != sizeof pid) pid = 0;
  throw WindowError(
      fmt::format("window {} is in use: the driver of partition '{}' runs (pid {}); "
                  "stop it first",
                  dir, p.name(), pid));
}

std::vector<std::string> files_of(const wire::PartitionTable& table) {
  std::vector<std::string> names;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    for (const auto suffix : {wire::kSectionSuffix, wire::kDriverSuffix, wire::kPeerSuffix}) {
      names.push_back(fmt::format("{}{}", table.partitions[i].name(), suffix));
    }
  }
  names.emplace_back(wire::kTableFile);  // last: until then it can be destroyed again
  return names;
}

}  // namespace

layout::SectionIdentity section_identity(const wire::PartitionTable& table, std::uint32_t number) {
  layout::SectionIdentity id{};
  id.magic = layout::kSectionMagic;
  id.version = layout::kSectionVersion;
  id.wire_version = wire::kWireVersion;
  id.partition = number;
  id.partition_count = table.count;
  id.window_generation = table.generation;
  id.section_bytes = table.section_bytes;
  id.lane_entries = layout::section_geometry(table.section_bytes, table.count).lane_entries;
  id.buffer_bytes = layout::kBufferBytes;
  return id;
}

void create_window(const std::string& dir, const wire::PartitionTable& table) {
  require_window_path(dir);
  require_trusted_place(dir);
  Undo undo;
  make_directory(dir, &undo);
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const wire::Partition& p = table.partitions[i];
    const layout::SectionIdentity id = section_identity(table, p.number);
    make_file(window_file(dir, p.name(), wire::kSectionSuffix), 0600, table.section_bytes, &id,
              sizeof id, &undo);
  }
  // Last: a directory without a table is not a window.
  const wire::TableBytes bytes = wire::encode_table(table);
  make_file(dir + "/" + std::string(wire::kTableFile), 0644, bytes.size(), bytes.data(),
            bytes.size(), &undo);
  undo.commit();
}

void destroy_window(const std::string& dir) {
  const wire::PartitionTable table = load_table(dir).table;
  const std::vector<std::string> ours = files_of(table);
  const std::set<std::string> known(ours.begin(), ours.end());
  for (const std::string& name : list_directory(dir)) {
    if (!known.contains(name)) {
      throw WindowError(
          fmt::format("window {} is not destroyed: {}/{} is not a file of Shunt; "
                      "move it away first",
                      dir, dir, name));
    }
  }
  // Held until the files are gone, so that no driver starts in between.
  std::vector<UniqueFd> locks;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    locks.push_back(lock_for_removal(dir, table.partitions[i]));
  }
  for (const std::string& name : ours) {
    const std::string path = dir + "/" + name;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
      throw WindowError(fmt::format("cannot remove {}: {}", path, std::strerror(errno)));
    }
  }
  if (::rmdir(dir.c_str()) != 0) {
    throw WindowError(fmt::format("cannot remove {}: {}", dir, std::strerror(errno)));
  }
}

}  // namespace shunt::window
