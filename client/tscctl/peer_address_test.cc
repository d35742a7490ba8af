#include "client/tscctl/peer_address.h"

#include <gtest/gtest.h>

#include <string>

namespace tsc_handoff::tscctl {
namespace {

TEST(PeerAddressTest, OnlyHostAndPortCanBeReachedFromElsewhere) {
  const struct {
    std::string address;
    bool good;
  } kRows[] = {
      {"10.77.0.1:50051", true},
      {"host-7.example:1", true},
      {"[fe80::1%eth0]:65535", true},
      {std::string(249, 'h') + ":50051", true},
      {std::string(250, 'h') + ":50051", false},
      {"", false},
      {"host", false},
      {":50051", false},
      {"host:", false},
      {"host:0", false},
      {"host:65536", false},
      {"host:+1", false},
      {"host:port", false},
      {"fe80::1:50051", false},
      {"[]:50051", false},
      {"unix:/run/agent.sock", false},
      {"unix:/run/agent.sock:1", false},
      {"dns:host:1", false},
      {"http://host:1", false},
      {"ho st:1", false},
      {"host:1\n", false},
  };
  for (const auto& row : kRows) EXPECT_EQ(IsPeerAddress(row.address), row.good) << row.address;
}

}  // namespace
}  // namespace tsc_handoff::tscctl
