#include "sockets/process/identity.h"

#include "sys/kernel.h"

namespace shunt::sockets {
namespace {
int process_id = 0;
}  // namespace

void remember_process() { process_id = sys::getpid(); }

bool in_vfork_child() { return process_id != 0 && sys::getpid() != process_id; }

}  // namespace shunt::sockets
