// What tscctl's tests share: two agents that behave, and tscctl run against them.
//
// Threading: one test's.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TSCCTL_TESTING_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TSCCTL_TESTING_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/lib/testing/fake_agent.h"
#include "client/tscctl/tscctl.h"

namespace tsc_handoff::tscctl {

struct Outcome {
  int exit_code;
  std::string out;
  std::string err;
};

Outcome Tscctl(const std::vector<std::string>& args, const Environment& environment = {});

// `source_` is also the agent that is asked where none is named.
class TscctlTest : public ::testing::Test {
 protected:
  TscctlTest();
  ~TscctlTest() override;

  Outcome Do(const std::vector<std::string>& args) { return Tscctl(args, environment_); }
  // `tscctl handoff vm1` from source_ to destination_.
  Outcome Handoff(const std::vector<std::string>& more = {});

  client::FakeAgent source_;
  client::FakeAgent destination_;
  Environment environment_;
  std::string directory_;
  std::string file_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TSCCTL_TESTING_H_
