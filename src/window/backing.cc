#include "window/backing.h"

#include "window/table_file.h"

namespace shunt::window {

Backing open_backing(const std::string& spec) {
  TableFile file = load_table(spec);
  Backing backing;
  backing.spec = spec;
  backing.table = file.table;
  backing.owner = file.owner;
  backing.group = file.group;
  backing.directory = spec;
  return backing;
}

}  // namespace shunt::window
