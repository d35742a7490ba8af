#include "client/tscctl/names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::tscctl {
namespace {

namespace v1 = ::tschandoff::v1;

// The enumerator's name without its prefix; "?" for a number without a name, and for UNSPECIFIED.
std::string Bare(absl::string_view name, absl::string_view prefix) {
  if (!absl::ConsumePrefix(&name, prefix) || name == "UNSPECIFIED") return "?";
  return std::string(name);
}

std::string InLowerCase(const std::string& name) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", "-"}});
}

}  // namespace

std::string ClockStatusName(v1::ClockInfo::Status status) {
  const std::string name = InLowerCase(Bare(v1::ClockInfo::Status_Name(status), "STATUS_"));
  return name == "?" ? "unknown" : name;
}

std::string HandoffStateName(v1::Handoff::State state) {
  return Bare(v1::Handoff::State_Name(state), "STATE_");
}

std::string HandoffSideName(v1::Handoff::Side side) {
  return InLowerCase(Bare(v1::Handoff::Side_Name(side), "SIDE_"));
}

std::string RunStateName(v1::Vm::RunState state) {
  return InLowerCase(Bare(v1::Vm::RunState_Name(state), "RUN_STATE_"));
}

std::string PortName(v1::Vm::Port port) {
  return InLowerCase(Bare(v1::Vm::Port_Name(port), "PORT_"));
}

}  // namespace tsc_handoff::tscctl
