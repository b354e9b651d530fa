#include "cli/process_scan.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

namespace shunt::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSmallFile = 16 * 1024;

struct FoundPage {
  std::string path;            // one way to it: /proc/PID/fd/N
  std::vector<pid_t> holders;  // ascending
};
using PageId = std::pair<dev_t, ino_t>;

std::optional<pid_t> pid_of(const fs::path& entry) {
  const std::string name = entry.filename();
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return pid;
}

// A program's own page is open for writing. One that is open for reading only is looked at, by another
// `shunt status` at this moment. The link's mode says how the file was opened (proc(5)).
bool is_status_page(const fs::path& link) {
  static const std::string kTarget =
      std::string("/memfd:") + layout::kStatusPageName + " (deleted)";
  std::error_code error;
  struct stat info {};
  return fs::read_symlink(link, error) == kTarget && lstat(link.c_str(), &info) == 0 &&
         (info.st_mode & S_IWUSR) != 0;
}

// The pid that the process has in its own, innermost pid namespace; 0: it is gone.
pid_t inner_pid(const std::string& proc, pid_t pid) {
  std::istringstream lines(File(proc + "/" + std::to_string(pid) + "/status").read_all(kSmallFile));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream words(line.substr(6));
    pid_t last = 0;
    while (words >> last) {
    }
    return last;
  }
  return 0;
}

pid_t owner_of(const std::string& proc, const FoundPage& found, std::uint32_t page_pid) {
  for (const pid_t pid : found.holders) {
    if (static_cast<std::uint32_t>(inner_pid(proc, pid)) == page_pid) return pid;
  }
  return found.holders.front();  // the owner is gone, a child still holds its page
}

std::string program_of(const std::string& proc, pid_t pid) {
  std::string name = File(proc + "/" + std::to_string(pid) + "/comm").read_all(kSmallFile);
  if (!name.empty() && name.back() == '\n') name.pop_back();
  return printable(name.empty() ? "?" : name);
}

// Adds the pages that `pid` holds. False: we may not look.
bool find_pages(const std::string& proc, pid_t pid, std::map<PageId, FoundPage>* found) {
  std::error_code error;
  const fs::path folder = fs::path(proc) / std::to_string(pid) / "fd";
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (!is_status_page(it->path())) continue;
    struct stat info {};
    if (stat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    FoundPage& page = (*found)[{info.st_dev, info.st_ino}];
    if (page.path.empty()) page.path = it->path();
    if (page.holders.empty() || page.holders.back() != pid) page.holders.push_back(pid);
  }
  return error != std::errc::permission_denied;
}

}  // namespace

ProcessScan scan_processes(const std::string& proc) {
  ProcessScan scan;
  std::vector<pid_t> pids;
  for (const fs::directory_entry& entry : fs::directory_iterator(proc)) {
    if (const auto pid = pid_of(entry.path())) pids.push_back(*pid);
  }
  std::sort(pids.begin(), pids.end());

  std::map<PageId, FoundPage> found;
  for (const pid_t pid : pids) {
    if (!find_pages(proc, pid, &found)) ++scan.hidden;
  }
  for (const auto& [id, page] : found) {
    const File file(page.path);
    if (!file.ok()) continue;  // ended meanwhile
    Result<PageStatus> status = read_status_page(file);
    if (!status.ok()) {
      ++scan.unreadable;
      continue;
    }
    ProcessStatus process;
    process.pid = owner_of(proc, page, status.value().pid);
    process.program = program_of(proc, process.pid);
    for (const pid_t pid : page.holders) {
      if (pid != process.pid) process.shared_with.push_back(pid);
    }
    process.page = status.take();
    scan.processes.push_back(std::move(process));
  }
  std::sort(scan.processes.begin(), scan.processes.end(),
            [](const ProcessStatus& a, const ProcessStatus& b) { return a.pid < b.pid; });
  return scan;
}

}  // namespace shunt::cli
