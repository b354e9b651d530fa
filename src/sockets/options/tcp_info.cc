#include "sockets/options/tcp_info.h"

#include <linux/tcp.h>

#include <algorithm>
#include <cstring>

#include "sockets/bell/look.h"
#include "sockets/options/plain_state.h"
#include "sockets/stream/stream.h"

namespace shunt::sockets {
namespace {

std::uint8_t tcp_state(Connection* c) {
  absorb_events(c);
  Hold hold(c->state_lock);
  const conn::State& s = c->state;
  if (s.dead || (s.write_shut && s.peer_finished)) return kClose;
  if (s.peer_finished) return kCloseWait;
  return s.write_shut ? kFinWait2 : kEstablished;
}

// How many segments TCP would have needed.
std::uint32_t segments(std::uint64_t bytes, std::uint32_t segment_bytes) {
  return static_cast<std::uint32_t>((bytes + segment_bytes - 1) / segment_bytes);
}

}  // namespace

std::uint32_t make_tcp_info(int fd, Socket* s, TcpInfoBytes* out) {
  Connection* c = s->connection;
  const bool plain = s->kind.load(std::memory_order_acquire) == Kind::kPlain;
  const ConnectedModel model = connected_model(s->family);
  tcp_info info{};
  const std::size_t known = std::min<std::size_t>(model.info_bytes, sizeof info);
  std::memcpy(&info, model.info, known);

  const std::uint64_t sent = c->bytes_sent.load(std::memory_order_relaxed);
  const std::uint64_t received = c->bytes_received.load(std::memory_order_relaxed);
  const std::uint64_t unread = plain ? 0 : std::min(bytes_unsent(s), sent);
  const auto mss = static_cast<std::uint32_t>(std::max(model.segment_bytes, 1));
  info.tcpi_state = plain ? plain_tcp_state(fd, s) : tcp_state(c);
  info.tcpi_snd_mss = mss;
  info.tcpi_advmss = std::max(info.tcpi_advmss, mss);
  info.tcpi_pmtu = static_cast<std::uint32_t>(model.mtu);
  // Written and not yet read by the peer's program: to TCP that is acknowledged all the same.
  info.tcpi_bytes_acked = sent + 1;  // with the SYN, as Linux counts
  info.tcpi_bytes_sent = sent;
  info.tcpi_bytes_received = received;
  info.tcpi_unacked = 0;
  info.tcpi_notsent_bytes = 0;
  info.tcpi_data_segs_out = segments(sent, mss);
  info.tcpi_data_segs_in = segments(received, mss);
  info.tcpi_segs_out = info.tcpi_data_segs_out + info.tcpi_data_segs_in + 2;
  info.tcpi_segs_in = info.tcpi_data_segs_in + info.tcpi_data_segs_out + 1;
  info.tcpi_delivered = info.tcpi_data_segs_out + 1;
  info.tcpi_snd_wnd = static_cast<std::uint32_t>(layout::kStreamBytes - unread);

  std::memcpy(out->bytes, model.info, sizeof out->bytes);
  const std::size_t size = model.info_bytes != 0 ? known : sizeof info;
  std::memcpy(out->bytes, &info, size);
  return model.info_bytes != 0 ? std::min<std::uint32_t>(model.info_bytes, kTcpInfoCapacity)
                               : static_cast<std::uint32_t>(sizeof info);
}

}  // namespace shunt::sockets
