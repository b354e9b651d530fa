// DatagramDoorbell: a datagram to the other driver's `.peer` socket, between drivers of one kernel.
//
// Thread safety: one thread. Errors: errno.
#pragma once

#include "driver/carriers/mailbox.h"
#include "driver/core/doorbell.h"

namespace shunt::driver {

class DatagramDoorbell : public Doorbell {
 public:
  DatagramDoorbell(const Core& core, Mailbox& mailbox, const Peer& peer)
      : core_(core), mailbox_(mailbox), peer_(peer) {}

  bool present() const override { return mailbox_.connected(peer_); }
  int ring() override {
    Datagram doorbell;
    doorbell.kind = static_cast<std::uint32_t>(DatagramKind::kDoorbell);
    doorbell.partition = core_.self.number;
    doorbell.generation = core_.generation();
    return mailbox_.send(peer_, doorbell, {});
  }
  void tick() override { mailbox_.reach(peer_); }
  layout::DoorbellKind kind() const override { return layout::DoorbellKind::kDatagram; }

 private:
  const Core& core_;
  Mailbox& mailbox_;
  const Peer& peer_;
};

}  // namespace shunt::driver
