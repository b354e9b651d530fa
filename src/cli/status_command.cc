// `shunt status`: what runs under Shunt on this machine, now.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/status_report.h"
#include "window/backing.h"

namespace shunt::cli {

void add_status(CLI::App* app) {
  CLI::App* status =
      app->add_subcommand("status",
                          "Show windows, listeners, connections and totals of programs\n"
                          "under Shunt, and why sockets were left to kernel TCP.\n"
                          "Only processes that you may look into are shown.");
  struct Options {
    std::string window;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  status
      ->add_option("--window", options->window,
                   "Show this window, not those that running programs use")
      ->type_name("WINDOW")
      ->envname("SHUNT_WINDOW");
  status->add_flag("--json", options->json, "As JSON (docs/STATUS-JSON.md)");
  status->footer(
      "Example:\n"
      "  shunt status\n"
      "  shunt status --json | python3 -m json.tool");
  status->callback([options] {
    if (!options->window.empty())
      window::open_backing(options->window,
                           window::Access::kReadOnly);  // asked for, so it must be there
    const StatusReport report = gather(options->window);
    fmt::print("{}", options->json ? dump(status_json(report)) : status_text(report));
  });
}

}  // namespace shunt::cli
