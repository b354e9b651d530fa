#include "wire/partition_table.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace shunt::wire {
namespace {

Endpoint address(const char* text, std::uint16_t port = 0) {
  Endpoint e;
  e.family = std::strchr(text, ':') != nullptr ? AF_INET6 : AF_INET;
  EXPECT_EQ(1, inet_pton(e.family, text, e.address.data())) << text;
  e.port = port;
  return e;
}

void add(PartitionTable* t, const std::string& name, std::initializer_list<const char*> addresses) {
  Partition& p = t->partitions[t->count++];
  p.number = t->count;
  name.copy(p.name_bytes.data(), kMaxPartitionName);
  for (const char* a : addresses) p.addresses[p.address_count++] = address(a);
}

PartitionTable two() {
  PartitionTable t;
  t.generation = 7;
  t.section_bytes = 1 << 20;
  add(&t, "a", {"10.77.0.1"});
  add(&t, "b", {"10.77.0.2", "fd00::2"});
  return t;
}

TEST(PartitionTable, RoundTripAndLookup) {
  const TableBytes bytes = encode_table(two());
  const auto decoded = decode_table(bytes.data(), bytes.size());
  ASSERT_TRUE(decoded.ok());
  const PartitionTable& t = decoded.value();
  EXPECT_EQ(7u, t.generation);
  EXPECT_EQ(1u << 20, t.section_bytes);
  ASSERT_EQ(2u, t.count);
  EXPECT_EQ("b", t.by_name("b")->name());
  EXPECT_EQ(nullptr, t.by_name("c"));
  EXPECT_EQ(nullptr, t.by_name(""));
  EXPECT_EQ(1u, t.by_address(address("10.77.0.1", 80))->number);
  EXPECT_EQ(2u, t.by_address(address("fd00::2", 80))->number);
  EXPECT_EQ(nullptr, t.by_address(address("10.77.0.3")));
  EXPECT_EQ("a", t.by_number(1)->name());
  EXPECT_EQ(nullptr, t.by_number(0));
  EXPECT_EQ(nullptr, t.by_number(3));
}

TEST(PartitionTable, GoldenHeader) {
  PartitionTable t = two();
  t.flags = kTableAreasFromDriver;
  t.area_map_bytes = 6 << 20;
  const TableBytes bytes = encode_table(t);
  const std::uint8_t expected[kTableHeaderBytes] = {
      'S', 'H', 'U', 'N', 'T', 'T', 'B', 'L', 3, 0, 4,    0, 2, 0, 0, 0,  //
      7,   0,   0,   0,   0,   0,   0,   0,   0, 0, 0x10, 0, 0, 0, 0, 0,  //
      1,   0,   0,   0,   0,   0,   0,   0,   0, 0, 0x60, 0, 0, 0, 0, 0};
  EXPECT_EQ(0, std::memcmp(bytes.data(), expected, sizeof expected));
}

TEST(PartitionTable, AreasFromTheDriverAreFlagged) {
  PartitionTable t = two();
  EXPECT_EQ(0u, decode_table(encode_table(t).data(), kTableBytes).value().flags);
  t.flags = kTableAreasFromDriver;
  t.area_map_bytes = 6 << 20;
  const auto decoded = decode_table(encode_table(t).data(), kTableBytes);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(kTableAreasFromDriver, decoded.value().flags);
  EXPECT_EQ(6u << 20, decoded.value().area_map_bytes);

  const auto refused = [&](std::uint32_t flags, std::uint64_t bytes) {
    PartitionTable bad = two();
    bad.flags = flags;
    bad.area_map_bytes = bytes;
    return decode_table(encode_table(bad).data(), kTableBytes).error() == EBADMSG;
  };
  EXPECT_TRUE(refused(2, 4096)) << "a flag of a later version";
  EXPECT_TRUE(refused(kTableAreasFromDriver, 0));
  EXPECT_TRUE(refused(kTableAreasFromDriver, 4095));
  EXPECT_TRUE(refused(0, 4096));
}

TEST(PartitionTable, TheLargestTableRoundTrips) {
  PartitionTable t;
  for (unsigned i = 0; i < kMaxPartitions; ++i) {
    add(&t, std::string(kMaxPartitionName - 2, 'x') + std::to_string(10 + i), {});
    Partition& p = t.partitions[i];
    for (unsigned a = 0; a < kMaxPartitionAddresses; ++a) {
      p.addresses[p.address_count++] =
          address(("10." + std::to_string(i) + "." + std::to_string(a) + ".1").c_str());
    }
  }
  ASSERT_EQ(TableFault::kNone, check(t).fault);
  const TableBytes bytes = encode_table(t);
  const auto decoded = decode_table(bytes.data(), bytes.size());
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(64u, decoded.value().by_address(address("10.63.15.1"))->number);
}

TEST(PartitionTable, ForeignBytesVersionsAndDamageAreToldApart) {
  const TableBytes good = encode_table(two());
  EXPECT_EQ(EMEDIUMTYPE, decode_table(good.data(), 0).error());
  const std::string text(kTableBytes, 'x');
  EXPECT_EQ(EMEDIUMTYPE,
            decode_table(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()).error());
  TableBytes other = good;
  other[8] ^= 2;
  EXPECT_EQ(EPROTONOSUPPORT, decode_table(other.data(), other.size()).error());
  EXPECT_EQ(EBADMSG, decode_table(good.data(), good.size() - 1).error());
}

TEST(PartitionTable, EveryByteFlipIsNoticedOrHarmless) {
  const TableBytes good = encode_table(two());
  for (std::size_t i = 0; i < good.size(); ++i) {
    TableBytes bad = good;
    bad[i] ^= 0xff;
    const auto decoded = decode_table(bad.data(), bad.size());
    if (!decoded.ok()) continue;
    // Generation, section size and address bytes may be anything; what is accepted is consistent.
    EXPECT_EQ(TableFault::kNone, check(decoded.value()).fault) << i;
    EXPECT_EQ(bad, encode_table(decoded.value())) << i;
  }
}

TEST(PartitionTable, CheckNamesTheFault) {
  EXPECT_EQ(TableFault::kNoPartitions, check(PartitionTable{}).fault);
  PartitionTable t = two();
  add(&t, "b", {"10.77.0.9"});
  EXPECT_EQ(TableFault::kNameTwice, check(t).fault);
  t = two();
  add(&t, "c", {"10.77.0.9", "10.77.0.2"});
  EXPECT_EQ(TableFault::kAddressTwice, check(t).fault);
  EXPECT_EQ(2u, check(t).partition);
  EXPECT_EQ(1u, check(t).address);
  t = two();
  add(&t, "c", {});
  EXPECT_EQ(TableFault::kNoAddress, check(t).fault);
  for (const char* name : {"", "a/b", "..", "ä", "a b"}) {
    t = two();
    add(&t, name, {"10.77.0.9"});
    EXPECT_EQ(TableFault::kBadName, check(t).fault) << name;
  }
  for (const char* bad :
       {"0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1", "::", "::1", "ff02::1"}) {
    t = two();
    add(&t, "c", {bad});
    EXPECT_EQ(TableFault::kBadAddress, check(t).fault) << bad;
  }
}

TEST(PartitionTable, SocketNamesFitOrAreRefused) {
  const std::string dir(kMaxWindowPath, 'd');
  const std::string name(kMaxPartitionName, 'n');
  const auto longest = window_socket(dir, name, kDriverSuffix);
  ASSERT_TRUE(longest.ok());
  EXPECT_EQ(dir + "/" + name + ".driver", std::string(longest.value().sun_path));
  EXPECT_EQ(ENAMETOOLONG, window_socket(dir + "d", "a", kDriverSuffix).error());
  EXPECT_EQ(EINVAL, window_socket("", "a", kDriverSuffix).error());
  EXPECT_EQ(EINVAL, window_socket("/w", "../a", kDriverSuffix).error());
}

}  // namespace
}  // namespace shunt::wire
