// `shunt window create|show|destroy`: the command line of src/window.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/status_report.h"
#include "layout/device.h"
#include "window/device_format.h"
#include "window/manage.h"
#include "window/runtime_directory.h"
#include "window/status.h"
#include "window/table_file.h"

namespace shunt::cli {
namespace {

struct CreateOptions {
  std::string window;
  std::vector<std::string> partitions;
  std::uint64_t size = 0;
  std::uint64_t granule = layout::kGranuleDefault;
  bool force = false;
};

struct WindowOptions {
  std::string window;
  bool json = false;
};

CLI::Option* add_target(CLI::App* app, std::string* window, const char* text) {
  return app->add_option("WINDOW", *window, text)->required()->type_name("");
}

void create_on_device(const CreateOptions& options,
                      const std::vector<window::PartitionSpec>& partitions) {
  window::DevicePlan plan;
  plan.table = window::plan_table(partitions, std::nullopt);
  plan.granule = options.granule;
  plan.size = options.size;
  window::create_device_window(options.window, plan, options.force);
}

// `for_devices`: an option that only a window on a device has was given.
void create(const CreateOptions& options, bool size_given, bool for_devices) {
  std::vector<window::PartitionSpec> specs;
  for (const std::string& text : options.partitions) {
    specs.push_back(window::parse_partition(text));
  }
  if (window::names_device(options.window)) {
    create_on_device(options, specs);
    return;
  }
  if (for_devices) {
    throw Failure(kStatusFailed, "cannot make a window on", options.window,
                  "--granule and --force are for devices and files, and there is none of that name",
                  fmt::format("make the file first (truncate -s 1G {})", options.window));
  }
  window::create_window(
      options.window,
      window::plan_table(specs, size_given ? std::optional(options.size) : std::nullopt));
}

CLI::Option* add_bytes(CLI::App* app, const char* name, std::uint64_t* value, const char* text) {
  return app->add_option(name, *value, text)
      ->type_name("BYTES")
      ->transform(CLI::Validator(CLI::AsSizeValue(false)).description(""));
}

void add_create(CLI::App* parent) {
  CLI::App* app =
      parent->add_subcommand("create",
                             "Make a window: a new directory, for partitions of one\n"
                             "kernel, or on a device or file that several kernels see.");
  const auto options = std::make_shared<CreateOptions>();
  add_target(app, &options->window,
             "A directory that is not there yet; or an existing file,\n"
             "/dev/daxX.Y, or pci:DOMAIN:BUS:SLOT.FUNCTION (ivshmem)");
  app->add_option("--partition", options->partitions,
                  "A partition and its IP addresses; repeat it for each partition")
      ->type_name("NAME=ADDRESS[,ADDRESS...]")
      ->required()
      ->allow_extra_args(false);
  const CLI::Option* size = add_bytes(app, "--size", &options->size,
                                      "Directory: bytes of all sections together, e.g. 8m;\n"
                                      "default 1 MiB each. Device: of the window; default all");
  const CLI::Option* granule = add_bytes(app, "--granule", &options->granule,
                                         "Device: unit of its mappings; default 2m. 4k packs\n"
                                         "tighter where no device DAX has to map the window");
  const CLI::Option* force = app->add_flag(
      "--force", options->force, "Device: overwrite what it holds, unless drivers use it");
  app->footer(
      "Example, for two network namespaces with these addresses:\n"
      "  shunt window create /run/shunt --partition a=10.77.0.1 --partition b=10.77.0.2,10.77.1.2\n"
      "Then start one driver in each:  shuntd --window /run/shunt --partition a\n"
      "Example, for two virtual machines that share an ivshmem device, in one of them:\n"
      "  shunt window create pci:0000:00:04.0 --partition a=10.77.0.1 --partition b=10.77.0.2");
  app->callback([options, size, granule, force] {
    create(*options, size->count() > 0, granule->count() + force->count() > 0);
  });
}

void add_show(CLI::App* parent) {
  CLI::App* app = parent->add_subcommand("show", "Show a window's partitions and their drivers.");
  const auto options = std::make_shared<WindowOptions>();
  add_target(app, &options->window, "Directory, file or device of the window");
  app->add_flag("--json", options->json, "As JSON (docs/STATUS-JSON.md)");
  app->footer("Example:\n  shunt window show /run/shunt");
  app->callback([options] {
    const window::WindowStatus status = window::read_status(options->window);
    fmt::print("{}", options->json ? dump(window_json(status)) : window_text(status));
  });
}

void destroy(const std::string& window) {
  if (window::names_device(window)) {
    window::destroy_device_window(window);
    return;
  }
  if (const auto device = window::device_of_runtime_directory(window)) {
    throw Failure(kStatusFailed, "cannot remove", window,
                  "it is only what the drivers of a window on a device left on this system",
                  fmt::format("name the device: shunt window destroy {}", device->spec));
  }
  window::destroy_window(window);
}

void add_destroy(CLI::App* parent) {
  CLI::App* app =
      parent->add_subcommand("destroy", "Remove a window; refused while a driver runs in it.");
  const auto options = std::make_shared<WindowOptions>();
  add_target(app, &options->window, "Directory, file or device of the window");
  app->footer("Example:\n  shunt window destroy /run/shunt");
  app->callback([options] { destroy(options->window); });
}

}  // namespace

void add_window(CLI::App* app) {
  CLI::App* window = app->add_subcommand(
      "window", "Make, show or remove a window, the memory that partitions share.");
  window->require_subcommand(1);
  window->footer(
      "Example:\n"
      "  shunt window create /run/shunt --partition a=10.77.0.1 --partition b=10.77.0.2\n"
      "  shunt window show /run/shunt\n"
      "  shunt window destroy /run/shunt");
  add_create(window);
  add_show(window);
  add_destroy(window);
}

}  // namespace shunt::cli
