#include "cli/status_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string_view>

namespace shunt::cli {
namespace {

using nlohmann::json;

wire::Endpoint endpoint(std::uint8_t last, std::uint16_t port) {
  wire::Endpoint out;
  out.family = 2;  // AF_INET
  out.port = port;
  out.address = {10, 77, 0, last};
  return out;
}

SocketStatus socket(bool shared_memory, wire::Reason reason) {
  SocketStatus out;
  out.state = layout::EntryState::kEstablished;
  out.shared_memory = shared_memory;
  out.reason = static_cast<std::uint32_t>(reason);
  out.local = endpoint(1, 6379);
  out.peer = endpoint(2, 40000);
  out.bytes_sent = 5000;
  out.bytes_received = 12;
  return out;
}

StatusReport example() {
  ProcessStatus process;
  process.pid = 4711;
  process.program = "redis-server";
  process.page.partition = "a";
  process.page.window = "/run/shunt";
  process.page.shared_memory = {3, 7000, 80};
  process.page.reasons[static_cast<std::uint32_t>(wire::Reason::kOrdinaryPeer)] = 2;
  process.page.listeners.push_back(socket(true, wire::Reason::kNone));
  process.page.connections.push_back(socket(true, wire::Reason::kNone));
  process.page.connections.back().peer_partition = "b";
  process.page.connections.push_back(socket(false, wire::Reason::kOrdinaryPeer));
  process.page.connections.back().detail = "why";

  window::PartitionStatus up;
  up.number = 1;
  up.name = "a";
  up.addresses = {"10.77.0.1"};
  up.driver = window::DriverCondition::kUp;
  up.pid = 99;
  up.notify = "poll";
  window::WindowStatus window;
  window.dir = "/run/shunt";
  window.generation = ~std::uint64_t{0};
  window.partitions.push_back(up);

  StatusReport report;
  report.windows.push_back({"/run/shunt", window, ""});
  report.windows.push_back({"/gone", std::nullopt, "no such directory"});
  report.scan.processes.push_back(process);
  report.scan.hidden = 12;
  return report;
}

TEST(ReasonKeyTest, EveryReasonHasAKeyOfItsOwn) {
  std::set<std::string> keys;
  for (std::uint32_t i = 0; i < wire::kReasonCount; ++i) {
    const bool known = std::string_view(wire::reason_text(i)) != "unknown reason";
    EXPECT_EQ(known, !reason_key(i).starts_with("reason-")) << i;
    EXPECT_TRUE(keys.insert(reason_key(i)).second) << i;
  }
}

TEST(StatusJsonTest, HasTheDocumentedKeys) {
  const json out = status_json(example());
  EXPECT_EQ(out["processes_hidden"], 12);
  const json& process = out["processes"][0];
  EXPECT_EQ(process["pid"], 4711);
  EXPECT_EQ(process["totals"]["shared_memory"]["bytes_sent"], 7000);
  EXPECT_EQ(process["totals"]["kernel"]["connections"], 0);
  EXPECT_EQ(process["reasons"], json({{"ordinary-peer", 2}}));
  EXPECT_EQ(process["listeners"][0]["local"], "10.77.0.1:6379");
  const json& shared = process["connections"][0];
  EXPECT_EQ(shared["via"], "shared-memory");
  EXPECT_EQ(shared["reason"], nullptr);
  EXPECT_EQ(shared["peer"], "10.77.0.2:40000");
  EXPECT_EQ(shared["peer_partition"], "b");
  EXPECT_EQ(shared["state"], "established");
  const json& kernel = process["connections"][1];
  EXPECT_EQ(kernel["via"], "kernel");
  EXPECT_EQ(kernel["reason"], "ordinary-peer");
  EXPECT_EQ(kernel["detail"], "why");
  EXPECT_EQ(out["windows"][0]["partitions"][0]["driver"], "up");
  EXPECT_EQ(out["windows"][0]["generation"], "ffffffffffffffff");
  EXPECT_EQ(out["windows"][1]["error"], "no such directory");
}

TEST(StatusJsonTest, EmptyHasTheSameLists) {
  const json out = status_json({});
  EXPECT_EQ(out["windows"], json::array());
  EXPECT_EQ(out["processes"], json::array());
}

TEST(StatusJsonTest, PrintsWhateverTheStringsHold) {
  StatusReport report = example();
  report.windows[1].error = "\xff";
  EXPECT_NO_THROW(json::parse(dump(status_json(report))));
}

TEST(StatusTextTest, SaysItAllWithin100Columns) {
  const std::string text = status_text(example());
  for (const char* part : {"up (pid 99, poll)", "not readable: no such directory", "redis-server",
                           "Connections through shared memory", "a - b", "4.9 KiB",
                           "ordinary TCP peer (why)", "12 processes belong to others"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
}

TEST(StatusTextTest, TheEmptyCaseSaysSo) {
  EXPECT_EQ(status_text({}), "No program runs under Shunt. Start one with: shunt run -- PROGRAM\n");
}

TEST(StatusTextTest, ADeadDriverIsDown) {
  StatusReport report = example();
  report.windows[0].status->partitions[0].driver = window::DriverCondition::kDown;
  EXPECT_NE(status_text(report).find("down"), std::string::npos);
}

}  // namespace
}  // namespace shunt::cli
