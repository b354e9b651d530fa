#include "cli/commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>

#include "cli/failure.h"
#include "window/error.h"

namespace shunt::cli {
namespace {

void print_failure(const std::string& where, const char* text) {
  fmt::print(stderr, "{}: {}\n", where, text);
}

// "shunt window create", as far as the words name subcommands.
std::string command_name(const CLI::App& app) {
  std::string name = app.get_name();
  const CLI::App* level = &app;
  while (!level->get_subcommands().empty()) {
    level = level->get_subcommands().front();
    name += " " + level->get_name();
  }
  return name;
}

// One line, whatever CLI11 says.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

SplitCommand split_command(const std::vector<std::string>& words) {
  SplitCommand out;
  if (words.empty() || words[0] != "run") {
    out.own = words;
    return out;
  }
  std::size_t i = 1;
  while (i < words.size() && words[i] != "--" && words[i].starts_with('-')) {
    i += words[i] == "--window" || words[i] == "--partition" ? 2 : 1;
  }
  i = std::min(i, words.size());
  out.own.assign(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(i));
  if (i < words.size() && words[i] == "--") ++i;
  out.program.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
  return out;
}

int run_main(const std::vector<std::string>& words) {
  const SplitCommand split = split_command(words);
  CLI::App app("Shunt carries the TCP connections of unmodified programs through shared memory.",
               "shunt");
  app.set_version_flag("--version", "shunt " SHUNT_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Example, in two terminals:\n"
      "  shunt run -- redis-server --port 7777\n"
      "  shunt run -- redis-cli -p 7777 ping\n"
      "`shunt SUBCOMMAND --help` tells more.");
  add_run(&app, split.program);
  add_window(&app);
  add_status(&app);
  try {
    app.parse(std::vector<std::string>(split.own.rbegin(), split.own.rend()));
    return 0;
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    const std::string name = command_name(app);
    print_failure(name, fmt::format("{}; see `{} --help`", one_line(error.what()), name).c_str());
    return name == "shunt run" ? kStatusRunFailed : kStatusUsage;
  } catch (const Failure& failure) {
    print_failure(command_name(app), failure.what());
    return failure.status();
  } catch (const std::exception& error) {  // WindowError says all that a person needs
    const std::string name = command_name(app);
    print_failure(name, error.what());
    return name == "shunt run" ? kStatusRunFailed : kStatusFailed;
  }
}

}  // namespace shunt::cli
