// A QEMU's monitor as those see it who drive that QEMU: commands and events. QmpClient speaks to a
// real one; tests have one that behaves as they want.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_QMP_MONITOR_H_
#define TSC_HANDOFF_CLIENT_QMP_MONITOR_H_

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tsc_handoff::qmp {

struct QmpEvent {
  std::string name;     // "STOP", "MIGRATION" and so on
  nlohmann::json data;  // an object; empty where the event has none
  // When it was read here, since a fixed instant of the steady clock.
  absl::Duration seen;
};

class Monitor {
 public:
  virtual ~Monitor() = default;

  // Where it is, for messages.
  virtual const std::string& address() const = 0;

  // Runs a command and returns what it returns. Events that come meanwhile are kept.
  //   FAILED_PRECONDITION  QEMU said no; the message has its words. Nothing else is known of it.
  //   UNIMPLEMENTED        this QEMU has no such command
  //   UNAVAILABLE          the monitor has gone; whether the command was run is not known
  //   DEADLINE_EXCEEDED    no answer in time; the same, and the monitor may be used again
  //   DATA_LOSS            what came is no QMP; the monitor cannot be used any more
  virtual absl::StatusOr<nlohmann::json> Execute(const std::string& command,
                                                 const nlohmann::json& arguments) = 0;

  // The next event, or nothing within `timeout`. UNAVAILABLE and DATA_LOSS as above.
  virtual absl::StatusOr<std::optional<QmpEvent>> NextEvent(absl::Duration timeout) = 0;
};

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_MONITOR_H_
