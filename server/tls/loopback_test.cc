#include "server/tls/loopback.h"

#include <gtest/gtest.h>

namespace tsc_handoff::tls {
namespace {

TEST(LoopbackTest, KnowsWhatStaysOnThisHost) {
  for (const char* address :
       {"127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "dns:///localhost:1",
        "dns:localhost:1", "ipv4:127.0.0.1:1", "unix-abstract:x"})
    EXPECT_TRUE(IsLoopback(address)) << address;
  for (const char* address :
       {"0.0.0.0:1", "[::]:1", "10.0.2.15:1", "127.0.0.1.example.org:1", "127.example.org:1",
        "localhost.example.org:1", "host:127", "", ":1", "[::2]:1", "[::ffff:10.0.0.1]:1"})
    EXPECT_FALSE(IsLoopback(address)) << address;
}

TEST(LoopbackTest, KnowsUnixSockets) {
  EXPECT_TRUE(IsUnixSocket("unix:/run/x"));
  EXPECT_FALSE(IsUnixSocket("unix-abstract:x")) << "it has no mode";
  EXPECT_FALSE(IsUnixSocket("unix.example.org:1"));
  EXPECT_FALSE(IsUnixSocket("127.0.0.1:1"));
}

}  // namespace
}  // namespace tsc_handoff::tls
