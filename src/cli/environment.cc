#include "cli/environment.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cli/failure.h"

namespace shunt::cli {
namespace {

constexpr char kName[] = "libshunt.so";
constexpr char kWhat[] = "cannot use the provider";

// Empty: no such file.
std::string real_path(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> resolved(realpath(path.c_str(), nullptr),
                                                             &std::free);
  return resolved ? std::string(resolved.get()) : std::string();
}

}  // namespace

std::string find_provider(const char* override_path, const std::string& executable) {
  std::vector<std::string> candidates;
  if (override_path != nullptr && *override_path != '\0') {
    candidates = {override_path};
  } else {
    const std::string prefix = executable.substr(0, executable.rfind('/')) + "/../";
    candidates = {prefix + "lib/" + kName, prefix + SHUNT_INSTALL_LIBDIR "/" + kName,
                  std::string(SHUNT_INSTALL_FULL_LIBDIR "/") + kName};
  }
  for (const std::string& candidate : candidates) {
    std::string path = real_path(candidate);
    if (path.empty()) continue;
    if (path.find_first_of(" :") != std::string::npos) {
      throw Failure(kStatusRunFailed, kWhat, path,
                    "LD_PRELOAD cannot carry a path with a space or a colon",
                    "move Shunt to another directory");
    }
    return path;
  }
  if (candidates.size() == 1) {
    throw Failure(kStatusRunFailed, kWhat, candidates[0],
                  "SHUNT_LIBRARY names it, and it is not there", "correct or unset SHUNT_LIBRARY");
  }
  throw Failure(kStatusRunFailed, kWhat, kName,
                fmt::format("it is neither at {} nor at {}", candidates[0], candidates[2]),
                "build it (./run build) or install Shunt");
}

std::string preload_value(const std::string& provider, const char* old_value) {
  std::string value = provider;
  std::string_view rest = old_value != nullptr ? old_value : "";
  while (!rest.empty()) {
    const std::size_t end = rest.find_first_of(" :");
    const std::string_view item = rest.substr(0, end);
    if (!item.empty() && item != provider) value.append(":").append(item);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  return value;
}

}  // namespace shunt::cli
