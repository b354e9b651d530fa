#include <unistd.h>

#include "net.h"

namespace shunt::test {
int run_helper(const std::string&, const std::vector<std::string>&) { return 2; }
}  // namespace shunt::test
