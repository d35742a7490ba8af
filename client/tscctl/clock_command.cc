#include "client/tscctl/clock_command.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/lib/agent_client.h"
#include "client/lib/rpc_error.h"
#include "client/tscctl/clock_comparison.h"
#include "client/tscctl/clock_json.h"
#include "client/tscctl/clock_report.h"
#include "client/tscctl/connect.h"
#include "client/tscctl/peer_address.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

absl::StatusOr<v1::HostInfo> AskHost(const std::string& address, const Options& options) {
  absl::StatusOr<std::unique_ptr<client::AgentClient>> agent = ConnectTo(address, options);
  if (!agent.ok()) return agent.status();
  return (*agent)->GetHostInfo();
}

Result ShowOne(const Options& options, Io& io) {
  const absl::StatusOr<v1::HostInfo> host = AskHost(options.agent, options);
  if (!host.ok()) return CallFailure(host.status(), "clock");
  if (io.json) {
    io.out << ClockAsJson({options.agent, host->host_name()}, host->clock());
  } else {
    PrintClock(*host, io);
  }
  return std::nullopt;
}

std::string Doing(const ClockComparison& comparison) {
  return absl::StrCat("clock ", comparison.local.address, " ", comparison.peer.address);
}

Failure NoPeerAddress(const ClockComparison& comparison) {
  Failure failure = UsageFailure(
      absl::StrCat("agent ", comparison.local.address, " cannot be told where to probe ",
                   comparison.peer.address, ": its agent does not say, and this is no HOST:PORT"),
      "");
  failure.next_step =
      absl::StrCat("Say with --peer HOST:PORT where ", comparison.local.address,
                   " reaches it, or start that agent with --peer-address HOST:PORT.");
  return failure;
}

// Finds out the other host's name, and where it is to be probed.
Result FindPeer(const Options& options, ClockComparison* comparison) {
  const absl::StatusOr<v1::HostInfo> host = AskHost(comparison->peer.address, options);
  if (host.ok()) comparison->peer.host_name = host->host_name();
  if (!options.peer.empty()) {
    // That agent need not be reachable from here.
    comparison->probed_at = options.peer;
    return std::nullopt;
  }
  if (!host.ok()) {
    Failure failure = CallFailure(host.status(), Doing(*comparison));
    if (client::IsUnreachable(host.status())) {
      failure.next_step =
          absl::StrCat(client::NextStepOf(host.status()), " If only ", comparison->local.address,
                       " reaches it, say with --peer HOST:PORT where.");
    }
    return failure;
  }
  const std::string& typed = comparison->peer.address;
  comparison->probed_at = host->peer_address().empty() ? typed : host->peer_address();
  if (host->peer_address().empty() && !IsPeerAddress(typed)) return NoPeerAddress(*comparison);
  return std::nullopt;
}

Failure ComparisonFailure(const absl::Status& status, const ClockComparison& comparison) {
  Failure failure = CallFailure(status, Doing(comparison));
  if (client::ReasonOf(status) == v1::PEER_UNREACHABLE) {
    failure.next_step =
        absl::StrCat("Look whether a tsc-agent answers at ", comparison.probed_at, " from ",
                     comparison.local.address, ", or say with --peer HOST:PORT where it does.");
  }
  return failure;
}

Result CompareTwo(const Options& options, Io& io) {
  ClockComparison comparison;
  comparison.local.address = options.from;
  comparison.peer.address = options.to;
  absl::StatusOr<std::unique_ptr<client::AgentClient>> agent = ConnectTo(options.from, options);
  if (!agent.ok()) return UsageFailure(agent.status().message(), "tscctl clock --help");
  const absl::StatusOr<v1::HostInfo> host = (*agent)->GetHostInfo();
  if (!host.ok()) return CallFailure(host.status(), Doing(comparison));
  comparison.local.host_name = host->host_name();
  if (Result failure = FindPeer(options, &comparison); failure.has_value()) return failure;

  absl::StatusOr<v1::CompareClocksResponse> answer = (*agent)->CompareClocks(comparison.probed_at);
  if (!answer.ok()) return ComparisonFailure(answer.status(), comparison);
  comparison.answer = *std::move(answer);
  if (io.json) {
    io.out << ComparisonAsJson(comparison);
  } else {
    PrintComparison(comparison, io);
  }
  const absl::Status verdict = VerdictStatus(comparison);
  if (verdict.ok()) return std::nullopt;
  Failure failure = CallFailure(verdict, Doing(comparison));
  if (!client::IsFromAgent(verdict)) failure.next_step = "Use a tscctl as new as that agent.";
  return failure;
}

}  // namespace

Result RunClock(const Options& options, Io& io) {
  return options.to.empty() ? ShowOne(options, io) : CompareTwo(options, io);
}

}  // namespace tsc_handoff::tscctl
