// shuntd: the driver of one partition, in the foreground.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <cstring>
#include <map>

#include "driver/driver.h"
#include "window/error.h"

namespace {

using shunt::layout::NotifyMode;
using shunt::window::UniqueFd;

constexpr const char* kFooter =
    "Example:\n"
    "  shunt window create /dev/shm/w --partition a=10.77.0.1 --partition b=10.77.0.2\n"
    "  ip netns exec a shuntd --window /dev/shm/w --partition a &\n"
    "  ip netns exec b shuntd --window /dev/shm/w --partition b &\n"
    "\n"
    "Runs in the foreground until SIGTERM or SIGINT, in the network namespace whose addresses the\n"
    "partition has, as the window's owner or as root. Each partition has exactly one driver.\n"
    "Exit status: 0 stopped, 1 could not start or run, others: wrong usage.";

constexpr const char* kDoorbells =
    "Doorbells (on a device, for each other partition PEER; datagrams if it has none and is on "
    "this kernel):\n"
    "  PEER=virtio:NAME    the virtio-serial port of that name, in a guest (or the port's device "
    "file)\n"
    "  PEER=unix:PATH      connects to that socket: the host, to the chardev of such a port\n"
    "  PEER=listen:PATH    waits there for the other driver\n"
    "  PEER=vfio:DDDD:BB:DD.F  the interrupts of that ivshmem-doorbell device, which vfio-pci has; "
    "several PEERs may have the same one\n"
    "Of a PEER that cannot ring, the queue is looked at again and again.\n"
    "\n";

struct Arguments {
  shunt::driver::Options options;
  std::vector<std::string> doorbells;
  std::string log_level = "info";
  unsigned dead_after_ms = 2500;
  unsigned request_limit_ms = 2000;
  int ready_fd = -1;
};

void declare(CLI::App& app, Arguments* a) {
  static const std::map<std::string, NotifyMode> modes{{"poll", NotifyMode::kPoll},
                                                       {"interrupt", NotifyMode::kInterrupt}};
  app.add_option("--window", a->options.window,
                 "The window: a directory, or a device (a file, "
                 "/dev/daxX.Y, pci:DDDD:BB:DD.F)")
      ->required()
      ->type_name("WINDOW");
  app.add_option("--partition", a->options.partition, "Name of the partition to drive")
      ->required()
      ->type_name("NAME");
  app.add_option("--notify", a->options.notify,
                 "How messages of other partitions are noticed: interrupt (sleep until a doorbell; "
                 "the default) or poll (look again and again)")
      ->transform(CLI::CheckedTransformer(modes, CLI::ignore_case).description(""))
      ->type_name("poll|interrupt");
  app.add_option("--request-limit", a->request_limit_ms,
                 "Milliseconds for a program's request; then kernel TCP connects")
      ->check(CLI::Range(10u, 60000u).description(""))
      ->type_name("MS")
      ->capture_default_str();
  app.add_option("--dead-after", a->dead_after_ms,
                 "On a device: milliseconds of silence after which another partition is dead")
      ->check(CLI::Range(200u, 3600000u).description(""))
      ->type_name("MS")
      ->capture_default_str();
  app.add_option("--allow", a->options.allow,
                 "On a device: a user, or user's number, whose programs may use the window besides "
                 "root and the driver's own user; any: everybody. May be repeated")
      ->type_name("USER");
  app.add_option("--areas-per-program", a->options.areas_per_program,
                 "On a device: how many connections a program may have at a time; 0: any number")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--doorbell", a->doorbells,
                 "On a device: what this driver and PEER's wake each other with (below). "
                 "May be repeated")
      ->type_name("PEER=SPEC");
  app.add_option("--log-level", a->log_level,
                 "trace, debug, info, warning, error, critical or off; the log goes to stderr")
      ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error", "critical", "off"})
                  .description(""))
      ->type_name("LEVEL")
      ->capture_default_str();
  app.add_option("--ready-fd", a->ready_fd,
                 "Write a line to this descriptor and close it when connections can be set up")
      ->check(CLI::NonNegativeNumber.description(""))
      ->type_name("N");
  app.set_config("--config", "",
                 "Read options from FILE, in lines such as: notify = \"poll\" (a list: "
                 "doorbell = [\"b=virtio:shunt.b\", \"c=unix:/run/c\"]). The command line wins")
      ->type_name("FILE");
  app.allow_config_extras(false);
  app.footer(std::string(kDoorbells) + kFooter);
}

// Every request holds a few descriptors for a moment, every connection not yet accepted one.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

UniqueFd stop_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int s : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, s);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) throw std::system_error(errno, std::generic_category(), "signalfd");
  return fd;
}

// sd_notify(3): a datagram to the socket that the service manager names.
void tell_service_manager() {
  const char* name = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (name == nullptr || (name[0] != '/' && name[0] != '@') ||
      std::strlen(name) >= sizeof address.sun_path) {
    return;
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name, std::strlen(name));
  if (name[0] == '@') address.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(name));
  ::sendto(socket.get(), "READY=1", 7, MSG_NOSIGNAL | MSG_DONTWAIT,
           reinterpret_cast<const sockaddr*>(&address), length);
}

void tell_ready(int ready_fd) {
  tell_service_manager();
  if (ready_fd < 0) return;
  [[maybe_unused]] const ssize_t n = ::write(ready_fd, "ready\n", 6);
  ::close(ready_fd);
}

void read_doorbells(Arguments* a) {
  for (const std::string& text : a->doorbells) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos) {
      throw shunt::window::WindowError(fmt::format("--doorbell {}: not PEER=SPEC", text));
    }
    if (!a->options.doorbells.emplace(text.substr(0, equals), text.substr(equals + 1)).second) {
      throw shunt::window::WindowError(
          fmt::format("--doorbell {}: that partition has a doorbell already", text));
    }
  }
}

int run(const Arguments& a) {
  raise_descriptor_limit();
  const UniqueFd signals = stop_signals();
  shunt::driver::Driver driver(a.options);
  driver.stop_when_readable(signals.get());
  spdlog::info("driver of partition '{}' in {}, generation {}, {}", a.options.partition,
               a.options.window, driver.generation(),
               a.options.notify == NotifyMode::kInterrupt ? "interrupt" : "poll");
  tell_ready(a.ready_fd);
  driver.run();
  spdlog::info("stopped");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"The driver of one partition: sets connections to other partitions up.", "shuntd"};
  Arguments arguments;
  declare(app, &arguments);
  CLI11_PARSE(app, argc, argv);
  try {
    spdlog::set_default_logger(spdlog::stderr_logger_st("shuntd"));
    spdlog::set_level(spdlog::level::from_str(arguments.log_level));
    read_doorbells(&arguments);
    arguments.options.dead_after = std::chrono::milliseconds(arguments.dead_after_ms);
    arguments.options.request_limit = std::chrono::milliseconds(arguments.request_limit_ms);
    return run(arguments);
  } catch (const std::exception& e) {
    fmt::print(stderr, "shuntd: {}\n", e.what());
    return 1;
  }
}
