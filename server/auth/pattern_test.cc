#include "server/auth/pattern.h"

#include <gtest/gtest.h>

namespace tsc_handoff::auth {
namespace {

TEST(VmPattern, FaultsAreSaid) {
  for (const char* good : {"*", "web-*", "db-?", "vm[0-9]", "[!a]*", "a.b_c:d-e", "[]]"})
    EXPECT_EQ(FaultOfVmPattern(good), "") << good;
  for (const char* bad : {"", "web *", "web/*", "web\\*", "vm[0-9", "[", "[]", "a\nb", "{a,b}"})
    EXPECT_NE(FaultOfVmPattern(bad), "") << bad;
  EXPECT_NE(FaultOfVmPattern(std::string(513, 'a')), "");
}

TEST(VmPattern, Matches) {
  struct Row {
    const char* pattern;
    const char* vm_id;
    bool matches;
  };
  const Row rows[] = {
      {"*", "anything.at:all", true}, {"web-*", "web-1", true},   {"web-*", "web-", true},
      {"web-*", "db-1", false},       {"web-*", "xweb-1", false}, {"web-?", "web-12", false},
      {"vm[0-9]", "vm7", true},       {"vm[!0-9]", "vm7", false}, {"web", "web-1", false},
      {"web-*", "", false},           {"Web", "web", false},
  };
  for (const Row& row : rows)
    EXPECT_EQ(MatchesVm(row.pattern, row.vm_id), row.matches) << row.pattern << " " << row.vm_id;
}

TEST(CertificatePattern, FaultsAreSaid) {
  for (const char* good : {"spiffe://example.org/orchestrator", "spiffe://example.org/*",
                           "https://example.org/[ab]", "dns:*.example.org", "spiffe://example.org"})
    EXPECT_EQ(FaultOfCertificatePattern(good), "") << good;
  for (const char* bad : {"", "*", "orchestrator", "://x", "dns:", "spiffe://*/orchestrator",
                          "spiffe://example.?rg/x", "s*://example.org/", "spiffe://example.org/a b",
                          "spiffe://*", "spiffe://example.org/[a"})
    EXPECT_NE(FaultOfCertificatePattern(bad), "") << bad;
}

TEST(CertificatePattern, AStarIsOneStepOrOneLabel) {
  const std::string uri = "spiffe://example.org/ns/prod/orchestrator";
  EXPECT_TRUE(MatchesUri(uri, uri));
  EXPECT_TRUE(MatchesUri("spiffe://example.org/ns/*/orchestrator", uri));
  EXPECT_FALSE(MatchesUri("spiffe://example.org/*", uri)) << "would be several steps";
  EXPECT_FALSE(MatchesUri("spiffe://example.org/ns/prod/orchestrato", uri));
  EXPECT_FALSE(MatchesUri("spiffe://example.com/ns/prod/orchestrator", uri));
  EXPECT_FALSE(MatchesUri(uri, uri + std::string("\0/admin", 7))) << "ends where it ends";
  EXPECT_FALSE(MatchesUri("dns:*", uri));
  EXPECT_TRUE(MatchesDns("dns:*.example.org", "Orchestrator.Example.ORG"));
  EXPECT_FALSE(MatchesDns("dns:*.example.org", "a.b.example.org"));
  EXPECT_FALSE(MatchesDns("dns:*.example.org", "example.org"));
  EXPECT_FALSE(MatchesDns("spiffe://example.org", "example.org"));
}

}  // namespace
}  // namespace tsc_handoff::auth
