#include "server/auth/connection_counts.h"

#include <gtest/gtest.h>

namespace tsc_handoff::auth {
namespace {

using Verdict = ConnectionCounts::Verdict;

TEST(ConnectionCounts, OfOnePeerThereAreSoManyAndOthersAreNotTouched) {
  ConnectionCounts counts(/*max_in_all=*/10, /*max_per_peer=*/2);
  EXPECT_EQ(counts.Add("uid 1"), Verdict::kCounted);
  EXPECT_EQ(counts.Add("uid 1"), Verdict::kCounted);
  EXPECT_EQ(counts.Add("uid 1"), Verdict::kTooManyOfPeer);
  EXPECT_EQ(counts.Add("uid 2"), Verdict::kCounted);
  counts.Remove("uid 1");
  EXPECT_EQ(counts.Add("uid 1"), Verdict::kCounted);
}

TEST(ConnectionCounts, InAllThereAreSoMany) {
  ConnectionCounts counts(/*max_in_all=*/2, /*max_per_peer=*/2);
  EXPECT_EQ(counts.Add("10.0.0.1"), Verdict::kCounted);
  EXPECT_EQ(counts.Add("10.0.0.2"), Verdict::kCounted);
  EXPECT_EQ(counts.Add("10.0.0.3"), Verdict::kTooManyInAll);
  EXPECT_EQ(counts.in_all(), 2u) << "who is refused does not count";
  counts.Remove("10.0.0.1");
  EXPECT_EQ(counts.of("10.0.0.1"), 0u);
  EXPECT_EQ(counts.Add("10.0.0.3"), Verdict::kCounted);
}

struct PeerCase {
  const char* address;
  const char* peer;
};

TEST(TcpPeer, IsAnAddressWithoutItsPortAndOfIpv6TheNetwork) {
  const PeerCase cases[] = {
      {"ipv4:10.0.0.1:4711", "10.0.0.1"},
      {"ipv6:%5B2001:db8:0:1:2:3:4:5%5D:4711", "2001:db8:0:1::/64"},
      {"ipv6:%5B2001:db8:0:1:ffff::1%5D:1", "2001:db8:0:1::/64"},
      {"ipv6:%5B2001:db8:0:2::1%5D:1", "2001:db8:0:2::/64"},
      {"ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"},
      {"ipv6:%5B::1%5D:1", "::/64"},
      {"ipv6:[::1]:1", "::/64"},
      {"ipv6:[no address]:1", "[no address]"},
  };
  for (const PeerCase& row : cases) EXPECT_EQ(TcpPeer(row.address), row.peer) << row.address;
}

}  // namespace
}  // namespace tsc_handoff::auth
