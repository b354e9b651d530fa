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

// The innermost subcommand that the words named.
const CLI::App& innermost(const CLI::App& app) {
  const CLI::App* level = &app;
  while (!level->get_subcommands().empty()) level = level->get_subcommands().front();
  return *level;
}

// "shunt window create"
std::string command_name(const CLI::App& app) {
  std::string name = app.get_name();
  for (const CLI::App* level = &app; !level->get_subcommands().empty();) {
    level = level->get_subcommands().front();
    name += " " + level->get_name();
  }
  return name;
}

// What is wrong with the command line. CLI11 says "a subcommand is required" where one is mistyped.
std::string usage_text(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> rest = innermost(app).remaining();
  if (error.get_name() == "RequiredError" && !rest.empty() && !rest[0].starts_with('-')) {
    return fmt::format("there is no subcommand '{}'", rest[0]);
  }
  return error.what();
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
    print_failure(
        name, fmt::format("{}; see `{} --help`", one_line(usage_text(app, error)), name).c_str());
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
