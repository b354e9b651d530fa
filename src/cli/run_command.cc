// `shunt run`: checks what can be checked, sets the environment, becomes the program.
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/environment.h"
#include "cli/failure.h"
#include "cli/program_check.h"
#include "window/device_object.h"
#include "window/runtime_directory.h"
#include "window/status.h"
#include "window/table_file.h"
#include "window/trust.h"

namespace shunt::cli {
namespace {

struct RunOptions {
  std::string window;
  std::string partition;
  bool require = false;
};

// Can a program ask the driver? Only its socket is looked at: the program may have no right to open
// the device of the window.
bool driver_listens(const std::string& dir, const std::string& partition) {
  const auto address = wire::window_socket(dir, partition, wire::kDriverSuffix);
  const window::UniqueFd socket(
      ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return address.ok() &&
         (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.value()),
                    sizeof address.value()) == 0 ||
          errno == EAGAIN);
}

bool driver_is_down(const std::string& dir, const std::string& partition) {
  if (window::device_of_runtime_directory(dir)) return !driver_listens(dir, partition);
  for (const window::PartitionStatus& p : window::read_status(dir).partitions) {
    if (p.name == partition) return p.driver == window::DriverCondition::kDown;
  }
  return false;
}

// One line if the partition's driver is not up: until it is, connections use kernel TCP.
void warn_without_driver(const RunOptions& options, const std::string& dir) {
  if (!driver_is_down(dir, options.partition)) return;
  fmt::print(stderr,
             "shunt run: warning: the driver of partition '{0}' is not running, connections to "
             "other partitions {1}; start it with: shuntd --window {2} --partition {0}\n",
             options.partition, options.require ? "fail" : "use kernel TCP", options.window);
}

// The directory that programs have for a window: its own, or what its driver left for them.
std::string directory_for_programs(const RunOptions& options) {
  if (!window::names_device(options.window)) {
    window::require_trusted_directory(options.window);
    return options.window;
  }
  std::string dir = window::runtime_directory(options.window);
  if (!window::device_of_runtime_directory(dir)) {
    throw Failure(kStatusRunFailed, "cannot use the window", options.window,
                  "no driver of it has run on this system since it started",
                  fmt::format("start one: shuntd --window {} --partition {}", options.window,
                              options.partition));
  }
  return dir;
}

// Programs change their directory. Links of a directory stay: its path must be short.
std::string absolute_window(const std::string& window) {
  if (window::names_device(window)) return window::canonical_name(window);
  std::string path = std::filesystem::absolute(window).lexically_normal().string();
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

void check_window(RunOptions* options) {
  if (options->window.empty() != options->partition.empty()) {
    const bool has_window = !options->window.empty();
    throw Failure(kStatusRunFailed, "cannot use", has_window ? options->window : options->partition,
                  has_window ? "--window needs --partition: a program is in one partition of it"
                             : "--partition needs --window: a partition belongs to one",
                  "give both, or neither to stay in one partition");
  }
  if (options->window.empty()) return;
  options->window = absolute_window(options->window);
  const std::string dir = directory_for_programs(*options);
  window::require_partition(options->window, window::load_table(dir).table, options->partition);
  warn_without_driver(*options, dir);
  options->window = dir;
}

void set_variable(const char* name, const std::string& value) {
  if (setenv(name, value.c_str(), 1) != 0) {
    throw Failure(kStatusRunFailed, "cannot set", name, std::strerror(errno), "free some memory");
  }
}

[[noreturn]] void become(const std::string& path, const std::vector<std::string>& program) {
  std::vector<char*> argv;
  for (const std::string& word : program) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execvp(path.c_str(),
         argv.data());  // the path has a slash; a file without #! goes to sh, as usual
  throw Failure(kStatusCannotRun, "cannot run", path, std::strerror(errno), "check the program");
}

// The program is split off before CLI11 sees the words, so the usage is written here.
class RunFormatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* /*app*/, std::string /*name*/) const override {
    return "Usage: shunt run [--window WINDOW --partition NAME] [--require] -- PROGRAM [ARG...]\n";
  }
};

void run(RunOptions options, const std::vector<std::string>& program) {
  if (program.empty()) {
    throw Failure(kStatusRunFailed, "cannot run", "PROGRAM", "none is given",
                  "write it behind --, as in: shunt run -- redis-server --port 7777");
  }
  const std::string path = find_program(program[0], std::getenv("PATH"));
  check_program(path);
  const std::string provider =
      find_provider(std::getenv("SHUNT_LIBRARY"), std::filesystem::read_symlink("/proc/self/exe"));
  check_window(&options);
  set_variable("LD_PRELOAD", preload_value(provider, std::getenv("LD_PRELOAD")));
  if (!options.window.empty()) {
    set_variable("SHUNT_WINDOW", options.window);
    set_variable("SHUNT_PARTITION", options.partition);
  }
  if (options.require) set_variable("SHUNT_REQUIRE", "1");
  become(path, program);
}

}  // namespace

void add_run(CLI::App* app, const std::vector<std::string>& program) {
  CLI::App* run_app =
      app->add_subcommand("run",
                          "Run a program with its TCP connections in shared memory.\n"
                          "What cannot go there uses kernel TCP; `shunt status` tells why.");
  const auto options = std::make_shared<RunOptions>();
  run_app
      ->add_option("--window", options->window,
                   "Directory or device of the window, to reach other partitions")
      ->type_name("WINDOW")
      ->envname("SHUNT_WINDOW");
  run_app->add_option("--partition", options->partition, "The partition of the window to run in")
      ->type_name("NAME")
      ->envname("SHUNT_PARTITION");
  run_app->add_flag("--require", options->require,
                    "Fail every connect that would fall back to kernel TCP");
  run_app->formatter(std::make_shared<RunFormatter>());
  run_app->footer(
      "One partition (no set-up, no root), in two terminals:\n"
      "  shunt run -- redis-server --port 7777\n"
      "  shunt run -- redis-cli -p 7777 ping\n"
      "Partition b of a window, where shuntd runs:\n"
      "  shunt run --window /run/shunt --partition b -- redis-benchmark -h 10.77.0.1\n"
      "Exit status: the program's; 125 if shunt fails, 126 if the program cannot be run under\n"
      "Shunt (setuid, statically linked, ...), 127 if it is not found.");
  run_app->callback([options, program] { run(*options, program); });
}

}  // namespace shunt::cli
