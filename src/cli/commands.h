// The subcommands of `shunt`. Each adds itself to the CLI11 application and runs as its callback.
//
// Errors: Failure, or window::WindowError from below; main() prints them. The status of a subcommand
// that ends normally is 0. Thread safety: none needed.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace shunt::cli {

// The command line, split at the program that `shunt run` shall start: behind "--", or, when that is
// left out, at the first word that is no option of `run`. Everything from there on is the program's
// and is not looked at. Other subcommands have no program.
struct SplitCommand {
  std::vector<std::string> own;
  std::vector<std::string> program;
};
SplitCommand split_command(const std::vector<std::string>& words);

void add_run(CLI::App* app, const std::vector<std::string>& program);
void add_window(CLI::App* app);
void add_status(CLI::App* app);

// The whole command line, without argv[0]; the exit status.
int run_main(const std::vector<std::string>& words);

}  // namespace shunt::cli
