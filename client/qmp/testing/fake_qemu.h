// FakeQemu: a monitor whose QEMU behaves like a real one as far as a migration goes, on a clock
// that a test owns. Any command can be made to fail, before or after it was carried out.
//
// Threading: one thread.
#ifndef TSC_HANDOFF_CLIENT_QMP_TESTING_FAKE_QEMU_H_
#define TSC_HANDOFF_CLIENT_QMP_TESTING_FAKE_QEMU_H_

#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/qmp/monitor.h"

namespace tsc_handoff::qmp {

struct FakeClock {
  absl::Duration now = absl::Hours(1);
};

// How a command goes wrong.
enum class Mishap {
  kRefused,  // QEMU says no and does nothing
  kLost,     // it is carried out, and the answer does not come in time
  kGone,     // QEMU dies before it
};

class FakeQemu final : public Monitor {
 public:
  FakeQemu(std::string address, FakeClock& clock) : address_(std::move(address)), clock_(clock) {}

  // What the VM migrates to.
  void ConnectTo(FakeQemu& destination) { peer_ = &destination; }

  const std::string& address() const override { return address_; }
  absl::StatusOr<nlohmann::json> Execute(const std::string& command,
                                         const nlohmann::json& arguments) override;
  absl::StatusOr<std::optional<QmpEvent>> NextEvent(absl::Duration timeout) override;

  // The `nth` (from 1) command of that name goes wrong so.
  void Upset(const std::string& command, int nth, Mishap mishap);
  // How often each command came.
  const std::map<std::string, int>& calls() const { return calls_; }
  bool running() const { return status == "running"; }
  bool gone() const { return status == "gone"; }

  // The VM, as a test starts and finds it.
  std::string status = "running";
  std::string name = "vm1";
  size_t vcpus = 2;
  bool kvm = true;
  // What becomes of a migration from here: after `passes` looks it completes, fails, or never ends.
  int passes = 2;
  std::string error;  // not empty: it fails with these words
  // For so many looks more it is "completed" and still "finish-migrate", as a real one is at times.
  int finishing = 0;
  bool loads = true;  // false: the destination dies while it loads
  bool ever_told_to_stay = false;
  // Called after everything that may have changed a run state.
  std::function<void()> changed;

 private:
  absl::StatusOr<nlohmann::json> Carry(const std::string& command, const nlohmann::json& arguments);
  // The migration gets on.
  void Advance();
  void Emit(const std::string& event, nlohmann::json data = nlohmann::json::object());
  void Become(const std::string& new_status);

  const std::string address_;
  FakeClock& clock_;
  FakeQemu* peer_ = nullptr;
  std::string migration_ = "none";
  bool was_running_ = false;
  std::deque<QmpEvent> events_;
  std::map<std::string, int> calls_;
  std::map<std::pair<std::string, int>, Mishap> mishaps_;
};

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_TESTING_FAKE_QEMU_H_
