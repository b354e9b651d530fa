// The program `shunt`.
#include <string>
#include <vector>

#include "cli/commands.h"

int main(int argc, char** argv) {
  return shunt::cli::run_main(std::vector<std::string>(argv + 1, argv + argc));
}
