#include "driver/strangers/policy.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "window/error.h"

namespace shunt::driver {
namespace {

constexpr uid_t kNobodysNumber = static_cast<uid_t>(-1);  // what the kernel says when it has none

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

uid_t uid_of_number(const std::string& text) {
  uid_t uid = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), uid);
  if (parsed.ec != std::errc{} || uid == kNobodysNumber) {
    throw window::WindowError(
        fmt::format("cannot allow '{}' to use the window: not a user's number", text));
  }
  return uid;
}

uid_t uid_of_name(const std::string& name) {
  std::vector<char> buffer(1024);
  passwd entry{};
  passwd* found = nullptr;
  int error = 0;
  while ((error = ::getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found)) ==
             ERANGE &&
         buffer.size() < (1u << 20)) {
    buffer.resize(buffer.size() * 2);
  }
  if (found != nullptr) return found->pw_uid;
  // What getpwnam_r() says of a name that nobody has depends on where users are looked up.
  const bool unknown = error == 0 || error == ENOENT || error == ESRCH;
  throw window::WindowError(
      fmt::format("cannot allow '{}' to use the window: {}; name a user, a user's number, or 'any'",
                  name, unknown ? "there is no such user" : std::strerror(error)));
}

}  // namespace

Policy::Policy(const std::vector<std::string>& allowed) : uids_{0, ::geteuid()} {
  for (const std::string& who : allowed) {
    if (who == "any") {
      any_ = true;
    } else {
      uids_.push_back(is_number(who) ? uid_of_number(who) : uid_of_name(who));
    }
  }
}

bool Policy::may_use(uid_t uid) const {
  return any_ || std::find(uids_.begin(), uids_.end(), uid) != uids_.end();
}

}  // namespace shunt::driver
