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
#include "window/manage.h"
#include "window/status.h"
#include "window/table_file.h"

namespace shunt::cli {
namespace {

struct CreateOptions {
  std::string dir;
  std::vector<std::string> partitions;
  std::uint64_t size = 0;
};

struct DirOptions {
  std::string dir;
  bool json = false;
};

CLI::Option* add_dir(CLI::App* app, std::string* dir) {
  return app->add_option("DIR", *dir, "The window's directory")->required()->type_name("");
}

void create(const CreateOptions& options, bool size_given) {
  std::vector<window::PartitionSpec> specs;
  for (const std::string& text : options.partitions) {
    specs.push_back(window::parse_partition(text));
  }
  window::create_window(
      options.dir,
      window::plan_table(specs, size_given ? std::optional(options.size) : std::nullopt));
}

void add_create(CLI::App* parent) {
  CLI::App* app =
      parent->add_subcommand("create", "Make a window: its directory, table and sections.");
  const auto options = std::make_shared<CreateOptions>();
  add_dir(app, &options->dir);
  app->add_option("--partition", options->partitions,
                  "A partition and its IP addresses; repeat it for each partition")
      ->type_name("NAME=ADDRESS[,ADDRESS...]")
      ->required()
      ->allow_extra_args(false);
  const CLI::Option* size =
      app->add_option("--size", options->size,
                      "Bytes of all sections together, e.g. 8m; default 1 MiB each")
          ->type_name("BYTES")
          ->transform(CLI::Validator(CLI::AsSizeValue(false)).description(""));
  app->footer(
      "Example, for two network namespaces with these addresses:\n"
      "  shunt window create /run/shunt --partition a=10.77.0.1 --partition b=10.77.0.2,10.77.1.2\n"
      "Then start one driver in each:  shuntd --window /run/shunt --partition a");
  app->callback([options, size] { create(*options, size->count() > 0); });
}

void add_show(CLI::App* parent) {
  CLI::App* app = parent->add_subcommand("show", "Show a window's partitions and their drivers.");
  const auto options = std::make_shared<DirOptions>();
  add_dir(app, &options->dir);
  app->add_flag("--json", options->json, "As JSON (docs/STATUS-JSON.md)");
  app->footer("Example:\n  shunt window show /run/shunt");
  app->callback([options] {
    const window::WindowStatus status = window::read_status(options->dir);
    fmt::print("{}", options->json ? dump(window_json(status)) : window_text(status));
  });
}

void add_destroy(CLI::App* parent) {
  CLI::App* app =
      parent->add_subcommand("destroy", "Remove a window; refused while a driver runs in it.");
  const auto options = std::make_shared<DirOptions>();
  add_dir(app, &options->dir);
  app->footer("Example:\n  shunt window destroy /run/shunt");
  app->callback([options] { window::destroy_window(options->dir); });
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
