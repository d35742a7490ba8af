// FakeAgent: a tsc-agent without KVM for the clients' tests. It behaves: VMs keep what is applied
// to them, handoffs go through their states and take and give the permit to run, running VMs
// refuse, vCPU sets are compared; time
// between capture and apply is what the test says, and a source_agent that is named counts as
// probed. Errors can be programmed.
//
// Threading: thread-safe; serves on gRPC's own threads until destroyed.
#ifndef TSC_HANDOFF_CLIENT_LIB_TESTING_FAKE_AGENT_H_
#define TSC_HANDOFF_CLIENT_LIB_TESTING_FAKE_AGENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/lib/state_view.h"
#include "tschandoff/v1/tsc_agent.pb.h"

namespace tsc_handoff::client {

struct FakeVm {
  std::string vm_id;
  std::vector<VcpuView> vcpus;
  uint32_t guest_tsc_khz = 2'000'000;
  bool running = false;
  bool may_run = true;
};

// `count` vCPUs, ids 0 to count-1, whose TSCs differ by 1000 ticks from one to the next.
FakeVm MakeFakeVm(const std::string& vm_id, int count);

struct FakeError {
  absl::StatusCode code;
  std::string message;
  // Empty: the error has no details, as one that gRPC itself makes.
  std::string reason;
  std::map<std::string, std::string> metadata;
};

class FakeAgent {
 public:
  // Listens on 127.0.0.1, at a free port unless one is given. Every FakeAgent has a boot id of its
  // own, and no peer address.
  explicit FakeAgent(int port = 0);
  ~FakeAgent();
  FakeAgent(const FakeAgent&) = delete;
  FakeAgent& operator=(const FakeAgent&) = delete;

  // For AgentClient::Connect.
  std::string target() const;
  int port() const;

  void AddVm(FakeVm vm);
  // As it is now; REQUIRES that it was added.
  FakeVm GetFakeVm(const std::string& vm_id) const;

  // The next `times` calls of `method` ("SetTscState") fail so and do nothing else.
  void FailNext(const std::string& method, const FakeError& error, int times = 1);
  // The next call of `method` does its work, if any, and never answers.
  void HangNext(const std::string& method);
  // The next SetTscState applies, and then fails as if its answer were lost.
  void LoseNextSetAnswer();
  // The next GetTscState answers with a state that does not match its checksum.
  void DamageNextCapture();
  // As the agent knows it; an empty one when it does not.
  tschandoff::v1::Handoff GetFakeHandoff(const std::string& handoff_id,
                                         tschandoff::v1::Handoff::Side side) const;
  // Changes what the agent knows of a handoff, and those that watch are told; REQUIRES that it
  // knows it.
  void EditHandoff(const std::string& handoff_id, tschandoff::v1::Handoff::Side side,
                   const std::function<void(tschandoff::v1::Handoff&)>& edit);
  // Makes the agent know it, as it is; those that watch are told.
  void PutHandoff(const tschandoff::v1::Handoff& handoff);
  // Ends all streams of WatchHandoffs so.
  void EndWatches(const FakeError& error);
  // Gives and takes states of format version 2, which no client knows yet.
  void UseNewerFormat();
  // The next SetTscState claims success with one vCPU's guest TSC off by `ticks`.
  void MisreportNextSet(int vcpu_index, int64_t ticks);

  // The next successful SetTscState's answer is changed so.
  void EditNextApply(std::function<void(tschandoff::v1::SetTscStateResponse&)> edit);

  // Changes what the agent says of its host from now on; its boot id is also that of the states.
  void EditHost(const std::function<void(tschandoff::v1::HostInfo&)>& edit);
  // What every later CompareClocks answers; 1.5 us +-300 ns and clocks that agree until set.
  void SetComparison(tschandoff::v1::CompareClocksResponse comparison);

  // What every later ELAPSED apply takes for the elapsed time; 50 ms until set.
  void SetElapsedNs(int64_t elapsed_ns);
  // Most VMs on one page, whatever the client asks for.
  void SetPageLimit(uint32_t limit);
  // Every page names itself as the next one.
  void SetEndlessPages();

  int CallCount(const std::string& method) const;
  tschandoff::v1::SetTscStateRequest LastSetRequest() const;
  // Of the last CompareClocks.
  std::string LastPeer() const;

  // Stops listening; later calls find nobody.
  void Stop();

 private:
  class Service;
  struct Server;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Server> server_;
};

}  // namespace tsc_handoff::client

#endif  // TSC_HANDOFF_CLIENT_LIB_TESTING_FAKE_AGENT_H_
