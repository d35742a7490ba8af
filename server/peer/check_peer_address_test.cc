#include <initializer_list>
#include <string>

#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/peer/grpc_peer_prober.h"

namespace tsc_handoff::peer {
namespace {

void ExpectRefused(std::initializer_list<std::string> addresses) {
  for (const std::string& address : addresses) {
    const absl::Status status = CheckPeerAddress("source_agent", address);
    EXPECT_FALSE(status.ok()) << address;
    if (status.ok()) continue;
    EXPECT_EQ(ReasonOf(status), Reason::kRequestInvalid) << address << ": " << status;
    EXPECT_EQ(MetadataOf(status)["field"], "source_agent");
    EXPECT_NE(status.message().find("source_agent is not HOST:PORT"), absl::string_view::npos)
        << status;
  }
}

TEST(CheckPeerAddressTest, AcceptsHostAndPort) {
  for (const std::string& address :
       {std::string("10.77.0.1:50051"), std::string("localhost:1"),
        std::string("node-1.example_net.org:65535"), std::string("[::1]:50051"),
        std::string("[2001:db8::77]:50051"), std::string("[fe80::1%eth0]:50051"),
        std::string(249, 'h') + ":50051"}) {
    EXPECT_TRUE(CheckPeerAddress("peer", address).ok()) << address;
  }
}

TEST(CheckPeerAddressTest, RefusesWhatHasNoHostOrNoPort) {
  ExpectRefused({"", ":", "host", ":50051", "host:", "host:0", "host:65536", "host:4294967297",
                 "host:18446744073709551617", "host:-1", "host:http", "host:5x", "host:0x50",
                 "host: 5", "host:+5"});
}

TEST(CheckPeerAddressTest, RefusesWhatIsTooLong) {
  ExpectRefused({std::string(250, 'h') + ":50051", std::string(10'000, '1')});
}

TEST(CheckPeerAddressTest, RefusesOtherCharacters) {
  ExpectRefused({" host:5", "host :5", "host\n:5", std::string("host\0:5", 7), "h\xc3\xb6st:5",
                 "host/x:5", "host?x:5", "user@host:5", "host,other:5"});
}

// gRPC takes what stands before a first colon for a way to resolve the rest, where it knows it.
TEST(CheckPeerAddressTest, RefusesUnixSocketsAndSchemes) {
  ExpectRefused({"unix:/run/agent.sock", "unix:///run/agent.sock", "unix:relative:5",
                 "unix-abstract:name:5", "dns:///host:5", "dns:host:5", "ipv4:10.0.0.1:5",
                 "ipv6:[::1]:5", "http://host:5"});
}

TEST(CheckPeerAddressTest, RefusesAnIpv6AddressWithoutBrackets) {
  ExpectRefused({"::1:50051", "2001:db8::77:50051", "[::1:50051"});
}

}  // namespace
}  // namespace tsc_handoff::peer
