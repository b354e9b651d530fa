#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/status_report.h"
#include "window/address.h"

namespace shunt::cli {
namespace {

using nlohmann::json;

json or_null(const std::string& text) { return text.empty() ? json(nullptr) : json(text); }

json address_json(const wire::Endpoint& endpoint) {
  return endpoint.family == 0 ? json(nullptr) : json(window::endpoint_text(endpoint));
}

json reason_json(const SocketStatus& socket) {
  return socket.reason == 0 ? json(nullptr) : json(reason_key(socket.reason));
}

json traffic_json(const Traffic& traffic) {
  return {{"connections", traffic.connections},
          {"bytes_sent", traffic.bytes_sent},
          {"bytes_received", traffic.bytes_received}};
}

json listener_json(const SocketStatus& socket) {
  return {{"local", address_json(socket.local)},
          {"via", socket.shared_memory ? "shared-memory" : "kernel"},
          {"reason", reason_json(socket)},
          {"detail", or_null(socket.detail)}};
}

json connection_json(const SocketStatus& socket) {
  json out = listener_json(socket);
  out["peer"] = address_json(socket.peer);
  out["peer_partition"] = or_null(socket.peer_partition);
  out["state"] = socket.state == layout::EntryState::kConnecting ? "connecting" : "established";
  out["bytes_sent"] = socket.bytes_sent;
  out["bytes_received"] = socket.bytes_received;
  return out;
}

json process_json(const ProcessStatus& process) {
  const PageStatus& page = process.page;
  json out = {{"pid", process.pid},
              {"program", process.program},
              {"shared_with", process.shared_with},
              {"partition", or_null(page.partition)},
              {"window", or_null(page.window)},
              {"totals",
               {{"shared_memory", traffic_json(page.shared_memory)},
                {"kernel", traffic_json(page.kernel)}}},
              {"reasons", json::object()},
              {"listeners", json::array()},
              {"connections", json::array()},
              {"counters",
               {{"resets_untrusted", page.resets_untrusted},
                {"rings_sent", page.rings_sent},
                {"sleeps", page.sleeps},
                {"entries_lost", page.entries_lost},
                {"kept_back", page.kept_back}}}};
  for (std::uint32_t i = 1; i < wire::kReasonCount; ++i) {
    if (page.reasons[i] != 0) out["reasons"][reason_key(i)] = page.reasons[i];
  }
  for (const SocketStatus& socket : page.listeners) {
    out["listeners"].push_back(listener_json(socket));
  }
  for (const SocketStatus& socket : page.connections) {
    out["connections"].push_back(connection_json(socket));
  }
  return out;
}

json counts_json(const std::vector<std::pair<std::uint32_t, std::uint64_t>>& counts) {
  json out = json::object();
  for (const auto& [reason, count] : counts) out[reason_key(reason)] = count;
  return out;
}

json peer_json(const window::PeerStatus& peer) {
  return {{"partition", peer.partition},
          {"requests_sent", peer.requests_sent},
          {"requests_queued", peer.requests_queued},
          {"connected", peer.connected},
          {"arrivals", peer.arrivals},
          {"arrivals_queued", peer.arrivals_queued},
          {"arrivals_accepted", peer.arrivals_accepted},
          {"doorbell",
           {{"kind", or_null(peer.doorbell)},
            {"present", peer.doorbell_present},
            {"rung", peer.doorbells_rung}}}};
}

json arena_json(const window::ArenaStatus& arena) {
  return {{"areas_total", arena.areas_total},
          {"areas_used", arena.areas_used},
          {"areas_lingering", arena.areas_lingering},
          {"dead_after_ms", arena.dead_after_ms},
          {"doorbells", arena.doorbells},
          {"counters",
           {{"no_area", arena.no_area},
            {"quota_refused", arena.quota_refused},
            {"links", arena.links},
            {"links_reset", arena.links_reset},
            {"peers_declared_dead", arena.peers_declared_dead},
            {"rings_relayed", arena.rings_relayed},
            {"rings_delivered", arena.rings_delivered},
            {"notices_sent", arena.notices_sent},
            {"messages_stale", arena.messages_stale},
            {"doorbells_missed", arena.doorbells_missed},
            {"bells_bad", arena.bells_bad}}}};
}

json device_json(const window::DeviceStatus& device) {
  return {{"size", device.size},
          {"object_size", device.object_size},
          {"base", device.base},
          {"granule", device.granule},
          {"section_stride", device.section_stride},
          {"area_stride", device.area_stride},
          {"areas", device.areas}};
}

json partition_json(const window::PartitionStatus& partition) {
  json out = {{"number", partition.number},
              {"name", partition.name},
              {"addresses", partition.addresses},
              {"driver", window::condition_text(partition.driver)},
              {"driver_unknown_because", or_null(partition.unknown_because)},
              {"pid", partition.pid},
              {"generation", partition.generation},
              {"started_s", partition.started_s},
              {"heartbeat_age_ms", partition.heartbeat_age_ms},
              {"notify", or_null(partition.notify)},
              {"sleeping", partition.sleeping},
              {"counters",
               {{"messages_sent", partition.messages_sent},
                {"messages_received", partition.messages_received},
                {"messages_bad", partition.messages_bad},
                {"doorbells_rung", partition.doorbells_rung},
                {"doorbells_received", partition.doorbells_received},
                {"lane_full", partition.lane_full},
                {"fds_dropped", partition.fds_dropped},
                {"datagrams_bad", partition.datagrams_bad},
                {"requests", partition.requests},
                {"requests_cancelled", partition.requests_cancelled},
                {"requests_bad", partition.requests_bad}}},
              {"request_refused", counts_json(partition.request_refused)},
              {"arrival_refused", counts_json(partition.arrival_refused)},
              {"peers", json::array()},
              {"listeners", json::array()}};
  out["arena"] = partition.arena ? arena_json(*partition.arena) : json(nullptr);
  for (const auto& peer : partition.peers) out["peers"].push_back(peer_json(peer));
  for (const auto& listener : partition.listeners) {
    out["listeners"].push_back(
        {{"local", listener.endpoint}, {"connections", listener.connections}});
  }
  return out;
}

}  // namespace

json window_json(const window::WindowStatus& status) {
  json out = {{"dir", status.dir},
              {"error", nullptr},
              {"kind", window::kind_text(status.kind)},
              {"directory", status.directory},
              {"device", status.device ? device_json(*status.device) : json(nullptr)},
              {"generation", fmt::format("{:016x}", status.generation)},
              {"section_bytes", status.section_bytes},
              {"lane_entries", status.lane_entries},
              {"partitions", json::array()}};
  for (const auto& partition : status.partitions) {
    out["partitions"].push_back(partition_json(partition));
  }
  return out;
}

json status_json(const StatusReport& report) {
  json out = {{"windows", json::array()},
              {"processes", json::array()},
              {"processes_hidden", report.scan.hidden},
              {"pages_unreadable", report.scan.unreadable}};
  for (const WindowReport& window : report.windows) {
    out["windows"].push_back(
        window.status
            ? window_json(*window.status)
            : json{{"dir", window.dir}, {"error", window.error}, {"partitions", json::array()}});
  }
  for (const ProcessStatus& process : report.scan.processes) {
    out["processes"].push_back(process_json(process));
  }
  return out;
}

std::string dump(const json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

}  // namespace shunt::cli
