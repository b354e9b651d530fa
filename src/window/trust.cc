#include "window/trust.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "window/error.h"

namespace shunt::window {
namespace {

namespace fs = std::filesystem;

// `path` is absolute and has no links.
void require_trusted_parents(const fs::path& path, const std::string& dir) {
  for (fs::path at = path; at.has_relative_path();) {
    at = at.parent_path();
    struct stat st {};
    if (::stat(at.c_str(), &st) != 0) continue;
    if ((st.st_mode & S_IWOTH) == 0 || (st.st_mode & S_ISVTX) != 0) continue;
    throw WindowError(
        fmt::format("window {} is not to be trusted: everybody can write {}, and so put another "
                    "window in its place; take that right away (chmod o-w {}) or choose another "
                    "directory",
                    dir, at.string(), at.string()));
  }
}

void require_trusted_owner(const fs::path& path, const std::string& dir) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return;
  if (st.st_uid != 0 && st.st_uid != ::geteuid()) {
    throw WindowError(
        fmt::format("window {} is not to be trusted: the directory belongs to uid {}, who can "
                    "exchange whatever is in it; use one that root or you (uid {}) have made",
                    dir, st.st_uid, ::geteuid()));
  }
  if ((st.st_mode & S_IWOTH) != 0) {
    throw WindowError(
        fmt::format("window {} is not to be trusted: everybody can write the directory; take that "
                    "right away (chmod o-w {}) or choose another one",
                    dir, dir));
  }
}

}  // namespace

void require_trusted_directory(const std::string& dir) {
  std::error_code error;
  const fs::path path = fs::canonical(dir, error);
  if (error || !fs::is_directory(path, error)) return;
  require_trusted_owner(path, dir);
  require_trusted_parents(path, dir);
}

void require_trusted_place(const std::string& dir) {
  std::error_code error;
  const fs::path path = fs::weakly_canonical(fs::absolute(dir, error), error);
  if (error) return;
  require_trusted_owner(path, dir);
  require_trusted_parents(path.has_filename() ? path : path.parent_path(), dir);
}

}  // namespace shunt::window
