#include "tests/witness/options.h"

#include <getopt.h>

#include <charconv>
#include <optional>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/vmm/tsc_vmm.h"
#include "tests/witness/record.h"

namespace tsc_handoff::witness {
namespace {

// sun_path less its final NUL.
constexpr size_t kLongestSocketPath = 107;

enum Flag : int {
  kVmId = 256,
  kVcpus,
  kVcpuIds,
  kAgentSocket,
  kControl,
  kPhaseTicks,
  kPhaseSpread,
  kTscAdjust,
  kIncoming,
  kAwaitsHandoff,
  kPaused,
  kIrqchip,
  kDeadlineTicks,
  kNoCheckAcross,
  kRegisterTimeoutMs,
  kNice,
  kNapUs,
  kDieAtWrite,
  kHelp,
};

constexpr option kLongOptions[] = {
    {"vm-id", required_argument, nullptr, kVmId},
    {"vcpus", required_argument, nullptr, kVcpus},
    {"vcpu-ids", required_argument, nullptr, kVcpuIds},
    {"agent-socket", required_argument, nullptr, kAgentSocket},
    {"control", required_argument, nullptr, kControl},
    {"phase-ticks", required_argument, nullptr, kPhaseTicks},
    {"phase-spread", required_argument, nullptr, kPhaseSpread},
    {"tsc-adjust", required_argument, nullptr, kTscAdjust},
    {"incoming", no_argument, nullptr, kIncoming},
    {"awaits-handoff", no_argument, nullptr, kAwaitsHandoff},
    {"paused", no_argument, nullptr, kPaused},
    {"irqchip", no_argument, nullptr, kIrqchip},
    {"deadline-ticks", required_argument, nullptr, kDeadlineTicks},
    {"no-check-across", no_argument, nullptr, kNoCheckAcross},
    {"register-timeout-ms", required_argument, nullptr, kRegisterTimeoutMs},
    {"nice", required_argument, nullptr, kNice},
    {"nap-us", required_argument, nullptr, kNapUs},
    {"die-at-write", required_argument, nullptr, kDieAtWrite},
    {"help", no_argument, nullptr, kHelp},
    {nullptr, 0, nullptr, 0},
};

// The whole of `text` as a number; nothing for an empty text, a remainder, or one that does not
// fit.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  bool negative = text.starts_with("-");
  if (negative) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  }
  uint64_t magnitude = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  const __int128 value =
      negative ? -static_cast<__int128>(magnitude) : static_cast<__int128>(magnitude);
  const T result = static_cast<T>(value);
  if (static_cast<__int128>(result) != value) return std::nullopt;
  return result;
}

// What is read before the number of vCPUs is known.
struct Raw {
  std::optional<uint32_t> vcpus;
  std::optional<std::string> vcpu_ids;
  std::optional<std::string> phase_ticks;
  std::optional<int64_t> phase_spread;
  std::optional<std::string> tsc_adjust;
};

absl::Status BadValue(const char* name, const std::string& value, const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat("--", name, " ", value, ": expected ", wanted));
}

template <typename T, typename Target>
absl::Status Store(const char* name, const std::string& value, T least, T most, Target* target) {
  std::optional<T> number = ParseNumber<T>(value);
  if (!number || *number < least || *number > most) {
    return BadValue(name, value, absl::StrCat("a number from ", least, " to ", most));
  }
  *target = *number;
  return absl::OkStatus();
}

absl::Status TakeFlag(int flag, const std::string& value, Options* options, Raw* raw) {
  switch (flag) {
    case kVmId:
      options->vm_id = value;
      break;
    case kVcpus:
      return Store<uint32_t>("vcpus", value, 1, WITNESS_MAX_VCPUS, &raw->vcpus);
    case kVcpuIds:
      raw->vcpu_ids = value;
      break;
    case kAgentSocket:
      options->agent_socket = value == "none" ? "" : value;
      break;
    case kControl:
      options->control_path = value;
      break;
    case kPhaseTicks:
      raw->phase_ticks = value;
      break;
    case kPhaseSpread:
      return Store<int64_t>("phase-spread", value, -(int64_t{1} << 53), int64_t{1} << 53,
                            &raw->phase_spread);
    case kTscAdjust:
      raw->tsc_adjust = value;
      break;
    case kIncoming:
      options->incoming = true;
      break;
    case kAwaitsHandoff:
      options->awaits_handoff = true;
      break;
    case kPaused:
      options->paused = true;
      break;
    case kIrqchip:
      options->irqchip = true;
      break;
    case kDeadlineTicks:
      options->irqchip = true;
      return Store<uint64_t>("deadline-ticks", value, 1, uint64_t{1} << 62,
                             &options->deadline_period_ticks);
    case kNoCheckAcross:
      options->check_across = false;
      break;
    case kRegisterTimeoutMs:
      return Store<int>("register-timeout-ms", value, 1, 3'600'000, &options->register_timeout_ms);
    case kNice:
      return Store<int>("nice", value, 0, 19, &options->nice);
    case kNapUs:
      return Store<int>("nap-us", value, 0, 1'000'000, &options->nap_us);
    case kDieAtWrite:
      return Store<uint32_t>("die-at-write", value, 1, 1'000'000, &options->die_at_write);
    case kHelp:
      options->help = true;
      break;
    default:
      return absl::InternalError("an option without a case");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint32_t>> VcpuIds(const Raw& raw) {
  std::vector<uint32_t> ids;
  if (!raw.vcpu_ids) {
    if (!raw.vcpus) return absl::InvalidArgumentError("--vcpus N or --vcpu-ids LIST is missing");
    for (uint32_t id = 0; id < *raw.vcpus; ++id) ids.push_back(id);
    return ids;
  }
  for (absl::string_view part : absl::StrSplit(*raw.vcpu_ids, ',')) {
    std::optional<uint32_t> id = ParseNumber<uint32_t>({part.data(), part.size()});
    if (!id || *id > TSC_KVM_MAX_VCPU_ID || (!ids.empty() && *id <= ids.back())) {
      return BadValue("vcpu-ids", *raw.vcpu_ids, "ascending ids from 0 to 4095, such as 0,2,5");
    }
    ids.push_back(*id);
  }
  if (ids.size() > WITNESS_MAX_VCPUS) {
    return BadValue("vcpu-ids", *raw.vcpu_ids, "at most 64 ids");
  }
  if (raw.vcpus && *raw.vcpus != ids.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--vcpus ", *raw.vcpus, " but --vcpu-ids names ", ids.size(), " vCPUs"));
  }
  return ids;
}

absl::Status TakePhases(const Raw& raw, Options* options) {
  const size_t count = options->vcpu_ids.size();
  if (raw.phase_ticks && raw.phase_spread) {
    return absl::InvalidArgumentError("--phase-ticks and --phase-spread exclude each other");
  }
  if (options->incoming && (raw.phase_ticks || raw.phase_spread || raw.tsc_adjust)) {
    return absl::InvalidArgumentError(
        "--phase-ticks, --phase-spread and --tsc-adjust are the source's: with --incoming they are "
        "handed over");
  }
  options->phase_ticks = SpreadPhases(raw.phase_spread.value_or(0), count);
  if (raw.phase_ticks) {
    absl::StatusOr<std::vector<uint64_t>> phases = ParseTicks(*raw.phase_ticks, count);
    if (!phases.ok())
      return BadValue("phase-ticks", *raw.phase_ticks, std::string(phases.status().message()));
    options->phase_ticks = *std::move(phases);
  }
  absl::StatusOr<std::vector<uint64_t>> adjust = ParseTicks(raw.tsc_adjust.value_or("0"), count);
  if (!adjust.ok())
    return BadValue("tsc-adjust", *raw.tsc_adjust, std::string(adjust.status().message()));
  options->tsc_adjust_ticks = *std::move(adjust);
  return absl::OkStatus();
}

}  // namespace

const char kUsage[] =
    R"(usage: witness --vm-id ID --vcpus N --agent-socket PATH --control PATH [options]
       witness ctl --control PATH '{"cmd":"status"}'

A small virtual machine whose guest checks its own time. It runs at once, or, with --incoming, waits for "load".

  --vm-id ID              name of the VM at the agent
  --vcpus N               1 to 64 vCPUs with the ids 0 to N-1
  --vcpu-ids 0,2,5        these ids instead
  --agent-socket PATH     the agent's socket for VMMs, or "none" to run without an agent
  --control PATH          Unix socket for commands: one JSON object a line, one reply a line
  --phase-ticks LIST      how far each vCPU's TSC is ahead of the first one's, e.g. 0,1000,-500
  --phase-spread TICKS    phases from 0 for the first vCPU to TICKS for the last
  --tsc-adjust LIST       IA32_TSC_ADJUST of each vCPU
  --incoming              wait for "load" instead of starting a fresh guest
  --awaits-handoff        the agent lets it run only when a handoff has brought it (with --incoming)
  --paused                do not run before "resume"
  --irqchip               local APICs in the kernel
  --deadline-ticks N      the guest keeps its TSC_DEADLINE timer armed N ticks ahead (brings --irqchip)
  --no-check-across       compare each vCPU with itself only
  --register-timeout-ms N how long to wait for the agent (10000)
  --nice N                of the vCPU threads (10), so that the agent gets a processor beside them
  --nap-us N              after 1000 rounds each vCPU rests until the next multiple of this (5000)
  --die-at-write N        is killed (SIGKILL) in place of the N-th write of a TSC or of kvmclock that the agent orders

Commands: status, pause, resume, save {path}, load {path}, verdict, offsets, check_across {on},
          disturb {vcpu, ticks}, quit.
Exit status: 0 asked to quit, 1 failure, 2 bad usage, 3 no usable KVM, 4 the agent refused the VM, or to let it run.
)";

std::vector<uint64_t> SpreadPhases(int64_t spread, size_t count) {
  std::vector<uint64_t> phases(count, 0);
  for (size_t i = 1; i < count; ++i) {
    phases[i] = static_cast<uint64_t>(static_cast<int64_t>(
        static_cast<__int128>(spread) * static_cast<int64_t>(i) / static_cast<int64_t>(count - 1)));
  }
  return phases;
}

absl::StatusOr<std::vector<uint64_t>> ParseTicks(std::string_view list, size_t count) {
  std::vector<uint64_t> ticks;
  for (absl::string_view part : absl::StrSplit(absl::string_view(list.data(), list.size()), ',')) {
    const std::string_view text(part.data(), part.size());
    if (std::optional<int64_t> value = ParseNumber<int64_t>(text)) {
      ticks.push_back(static_cast<uint64_t>(*value));
    } else if (std::optional<uint64_t> large = ParseNumber<uint64_t>(text)) {
      ticks.push_back(*large);
    } else {
      return absl::InvalidArgumentError("whole numbers of ticks, separated by commas");
    }
  }
  if (ticks.size() > count) return absl::InvalidArgumentError("no more numbers than vCPUs");
  ticks.resize(count, 0);
  return ticks;
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& args) {
  std::vector<std::string> copies = args;
  std::string program = "witness";
  std::vector<char*> argv = {program.data()};
  for (std::string& arg : copies) argv.push_back(arg.data());
  argv.push_back(nullptr);
  const int argc = static_cast<int>(argv.size()) - 1;

  Options options;
  Raw raw;
  bool agent_socket_given = false;
  optind = 0;  // glibc: start afresh
  opterr = 0;
  for (int flag; (flag = getopt_long(argc, argv.data(), ":", kLongOptions, nullptr)) != -1;) {
    if (flag == '?' || flag == ':') {
      return absl::InvalidArgumentError(absl::StrCat(
          argv[optind - 1], flag == ':' ? ": its value is missing" : ": no such option"));
    }
    agent_socket_given |= flag == kAgentSocket;
    if (absl::Status status = TakeFlag(flag, optarg == nullptr ? "" : optarg, &options, &raw);
        !status.ok()) {
      return status;
    }
  }
  if (options.help) return options;
  if (optind != argc)
    return absl::InvalidArgumentError(absl::StrCat(argv[optind], ": unexpected argument"));
  if (options.vm_id.empty()) return absl::InvalidArgumentError("--vm-id ID is missing");
  if (!agent_socket_given)
    return absl::InvalidArgumentError("--agent-socket PATH is missing (\"none\" for no agent)");
  if (options.control_path.empty()) return absl::InvalidArgumentError("--control PATH is missing");
  if (options.control_path.size() > kLongestSocketPath) {
    return absl::InvalidArgumentError(
        absl::StrCat("--control: the path has ", options.control_path.size(),
                     " bytes, a Unix socket's at most ", kLongestSocketPath));
  }
  absl::StatusOr<std::vector<uint32_t>> ids = VcpuIds(raw);
  if (!ids.ok()) return ids.status();
  options.vcpu_ids = *std::move(ids);
  if (options.awaits_handoff && (!options.incoming || options.agent_socket.empty())) {
    return absl::InvalidArgumentError(
        "--awaits-handoff is for a VM with --incoming that has an agent");
  }
  if (options.die_at_write > 0 && options.agent_socket.empty()) {
    return absl::InvalidArgumentError("--die-at-write is for a VM that has an agent");
  }
  if (absl::Status status = TakePhases(raw, &options); !status.ok()) return status;
  return options;
}

}  // namespace tsc_handoff::witness
