// QmpClient: QEMU's machine protocol (docs/interop/qmp-spec in QEMU's source) over a socket. What
// comes from the other side is limited: a line to 1 MiB, kept events to 1024, every wait by a
// deadline. Each command carries an id, so that an answer that comes too late is not taken for
// another's.
//
// JSON is nlohmann's, as everywhere in this directory's neighbour tscctl: it keeps integers of 64
// bits exact, which protobuf's Struct does not, and needs no schema for QEMU's hundreds of
// commands.
//
// Threading: one thread at a time.
#ifndef TSC_HANDOFF_CLIENT_QMP_QMP_CLIENT_H_
#define TSC_HANDOFF_CLIENT_QMP_QMP_CLIENT_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/qmp/line_socket.h"
#include "client/qmp/monitor.h"
#include "client/qmp/qmp_address.h"

namespace tsc_handoff::qmp {

class QmpClient final : public Monitor {
 public:
  // Connects and shakes hands. `timeout` is for that, and for each command after. Errors as of
  // Execute. A monitor has room for one client: another one connected to it shows as
  // DEADLINE_EXCEEDED.
  static absl::StatusOr<std::unique_ptr<QmpClient>> Connect(const QmpAddress& address,
                                                            absl::Duration timeout);

  const std::string& address() const override { return address_; }
  // As QEMU said in its greeting, for example "7.2.22".
  const std::string& qemu_version() const { return version_; }

  absl::StatusOr<nlohmann::json> Execute(const std::string& command,
                                         const nlohmann::json& arguments) override;
  absl::StatusOr<std::optional<QmpEvent>> NextEvent(absl::Duration timeout) override;

 private:
  QmpClient(std::string address, LineSocket socket, absl::Duration timeout);

  absl::Status ShakeHands();
  absl::StatusOr<nlohmann::json> Run(const std::string& command, const nlohmann::json& arguments);
  // The next message that is no event, or nothing before `deadline`; events are kept in events_,
  // and with `until_event` the first of them ends the wait, too.
  absl::StatusOr<std::optional<nlohmann::json>> Receive(absl::Time deadline, bool until_event);
  absl::Status Keep(const nlohmann::json& event);
  // The status with the monitor's address; remembered when the stream is of no use any more.
  absl::Status Fail(const absl::Status& status);

  const std::string address_;
  const absl::Duration timeout_;
  LineSocket socket_;
  std::string version_;
  uint64_t last_id_ = 0;
  std::deque<QmpEvent> events_;
  absl::Status broken_;
};

}  // namespace tsc_handoff::qmp

#endif  // TSC_HANDOFF_CLIENT_QMP_QMP_CLIENT_H_
