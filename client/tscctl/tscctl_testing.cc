#include "client/tscctl/tscctl_testing.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace tsc_handoff::tscctl {

Outcome Tscctl(const std::vector<std::string>& args, const Environment& environment) {
  std::ostringstream out;
  std::ostringstream err;
  const int exit_code = RunTscctl(args, out, err, environment);
  return {exit_code, out.str(), err.str()};
}

TscctlTest::TscctlTest() {
  std::string pattern = testing::TempDir() + "/tscctl.XXXXXX";
  directory_ = mkdtemp(pattern.data());
  file_ = directory_ + "/vm1.tsc";
  source_.AddVm(client::MakeFakeVm("vm1", 4));
  client::FakeVm destination = client::MakeFakeVm("vm1", 4);
  for (client::VcpuView& vcpu : destination.vcpus) vcpu.guest_tsc_ticks = 0;
  destination_.AddVm(destination);
  environment_.variables["TSC_AGENT"] = source_.target();
}

TscctlTest::~TscctlTest() { std::filesystem::remove_all(directory_); }

Outcome TscctlTest::Handoff(const std::vector<std::string>& more) {
  std::vector<std::string> args = {"handoff",        "vm1",  "--from",
                                   source_.target(), "--to", destination_.target()};
  args.insert(args.end(), more.begin(), more.end());
  return Do(args);
}

}  // namespace tsc_handoff::tscctl
