// Network: carries an orchestrator's calls to agents and their answers back; loses, delays,
// reorders and repeats them.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_TESTS_SIMULATE_NETWORK_H_
#define TSC_HANDOFF_TESTS_SIMULATE_NETWORK_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/lib/agent_call.h"
#include "tests/simulate/context.h"
#include "tests/simulate/host.h"

namespace tsc_handoff::simulate {

class Network {
 public:
  using Done = std::function<void(absl::StatusOr<client::AgentAnswer>)>;

  explicit Network(Context& context) : context_(context) {}

  // Sends `request` to the host's agent; `done` is called once: with the answer, an error on the
  // way, or when the caller's patience is at an end. `alive` ends when the caller dies: then nobody
  // is told, and the agent sees a cancelled call.
  void Call(Host& host, std::shared_ptr<const client::AgentRequest> request,
            const std::shared_ptr<const bool>& alive, Done done);

 private:
  struct Pending;

  void Arrive(Host& host, const std::shared_ptr<Pending>& call, bool again);
  void Answer(const std::shared_ptr<Pending>& call, absl::StatusOr<client::AgentAnswer> answer);
  int64_t TravelPs();

  Context& context_;
};

// "SetTscState" and so on.
const char* NameOf(const client::AgentRequest& request);

}  // namespace tsc_handoff::simulate

#endif  // TSC_HANDOFF_TESTS_SIMULATE_NETWORK_H_
