// The policy's file, and what it decides for callers with any names. A policy that was made up,
// written down and read is the same policy; and whatever was read gives to each caller what a
// second, simpler reading of its bindings gives: nothing unless a binding is about him.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "server/auth/policy.h"
#include "tests/fuzz/bytes.h"
#include "tests/fuzz/target.h"

namespace tsc_handoff::fuzz {
namespace {

using auth::Binding;
using auth::Identity;
using auth::Policy;
using auth::Role;

enum Kind : uint8_t { kText = 0, kMadeUp = 1, kKinds = 2 };

constexpr char kName[] = "policy.yaml";
constexpr Role kRoles[] = {Role::kPeer, Role::kViewer, Role::kOrchestrator, Role::kAdmin,
                           Role::kVmm};
// Of few pieces, so that patterns and names meet.
constexpr const char* kUriPieces[] = {"/a", "/b", "/*", "/a*", "/?", "/[ab]", "/[!a]", "/", "b"};
constexpr const char* kDnsPieces[] = {"a", "B", ".", ".a", ".*", "*", "?", ".b.a", "[ab]"};
constexpr const char* kVmPieces[] = {"web", "-", "1", "*", "?", "[0-9]", "db", ".", "_"};

// Numbers only: the names of this machine's users are not the input's.
auth::Accounts Numbers() {
  const auto number = [](const std::string& word) -> absl::StatusOr<uint32_t> {
    if (word.empty() || word.size() > 9 ||
        !std::all_of(word.begin(), word.end(), absl::ascii_isdigit))
      return absl::InvalidArgumentError("a number was expected");
    return static_cast<uint32_t>(std::stoul(word));
  };
  return {number, number};
}

// --- The second reading
// ---------------------------------------------------------------------------

// '*' and '?' but no brackets; neither stands for `separator`, unless that is 0.
bool Glob(absl::string_view pattern, absl::string_view text, char separator) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    for (size_t i = 0;; ++i) {
      if (Glob(pattern.substr(1), text.substr(i), separator)) return true;
      if (i == text.size() || (separator != 0 && text[i] == separator)) return false;
    }
  }
  if (text.empty()) return false;
  if (pattern[0] == '?' ? separator != 0 && text[0] == separator : pattern[0] != text[0])
    return false;
  return Glob(pattern.substr(1), text.substr(1), separator);
}

// Few enough stars, and no bracket: what Glob can judge in time.
bool CanJudge(absl::string_view pattern) {
  return !absl::StrContains(pattern, "[") && std::count(pattern.begin(), pattern.end(), '*') < 6;
}

enum class Answer { kNo, kYes, kCannotSay };

Answer Or(Answer a, Answer b) {
  if (a == Answer::kYes || b == Answer::kYes) return Answer::kYes;
  return a == Answer::kNo ? b : a;
}

Answer Names(const std::string& pattern, const Identity& identity) {
  const bool is_dns = absl::StartsWith(pattern, "dns:");
  const std::vector<std::string>& names = is_dns ? identity.dns : identity.uris;
  if (names.empty()) return Answer::kNo;
  if (!CanJudge(pattern)) return Answer::kCannotSay;
  for (const std::string& name : names) {
    // What two programs read differently is nobody's name.
    if (absl::StrContains(name, '\0')) continue;
    // fnmatch sees a dot in a label as a step of a path, and a slash in a name as one, too.
    const bool hit =
        is_dns ? Glob(absl::StrReplaceAll(absl::AsciiStrToLower(pattern.substr(4)), {{".", "/"}}),
                      absl::StrReplaceAll(absl::AsciiStrToLower(name), {{".", "/"}}), '/')
               : Glob(pattern, name, '/');
    if (hit) return Answer::kYes;
  }
  return Answer::kNo;
}

Answer IsAbout(const Binding& binding, const Identity& identity) {
  const auto among = [](const std::vector<uint32_t>& all, uint32_t one) {
    return std::count(all.begin(), all.end(), one) > 0;
  };
  bool yes = false;
  switch (identity.kind) {
    case Identity::Kind::kUnknown:
      return Answer::kNo;
    case Identity::Kind::kAnonymous:
      yes = binding.anonymous || (binding.plain_tcp && !identity.tls);
      return yes ? Answer::kYes : Answer::kNo;
    case Identity::Kind::kUnix:
      yes = among(binding.users, identity.uid) || among(binding.groups, identity.gid);
      for (const uint32_t gid : identity.groups) yes = yes || among(binding.groups, gid);
      return yes ? Answer::kYes : Answer::kNo;
    case Identity::Kind::kCertificate:
      break;
  }
  Answer answer = Answer::kNo;
  for (const std::string& pattern : binding.certificates)
    answer = Or(answer, Names(pattern, identity));
  return answer;
}

bool Suffices(Role has, Role needs) {
  if (has == Role::kVmm || needs == Role::kVmm) return has == needs;
  return static_cast<int>(has) >= static_cast<int>(needs);
}

Answer Holds(const auth::VmScope& scope, const std::string& vm_id) {
  if (scope.all) return Answer::kYes;
  Answer answer = Answer::kNo;
  for (const std::string& pattern : scope.patterns) {
    answer = Or(answer, !CanJudge(pattern)           ? Answer::kCannotSay
                        : Glob(pattern, vm_id, '\0') ? Answer::kYes
                                                     : Answer::kNo);
  }
  return answer;
}

Answer Permitted(const Policy& policy, const Identity& identity, Role needs) {
  Answer answer = Answer::kNo;
  for (const Binding& binding : policy.bindings) {
    if (Suffices(binding.role, needs)) answer = Or(answer, IsAbout(binding, identity));
  }
  return answer;
}

Answer PermittedVm(const Policy& policy, const Identity& identity, Role needs,
                   const std::string& vm_id) {
  Answer answer = Answer::kNo;
  for (const Binding& binding : policy.bindings) {
    if (!Suffices(binding.role, needs)) continue;
    const Answer about = IsAbout(binding, identity);
    const Answer holds = Holds(binding.vms, vm_id);
    if (about == Answer::kYes && holds == Answer::kYes) return Answer::kYes;
    if (about != Answer::kNo && holds != Answer::kNo) answer = Answer::kCannotSay;
  }
  return answer;
}

bool Agrees(Answer expected, bool found) {
  return expected == Answer::kCannotSay || (expected == Answer::kYes) == found;
}

// --- What must hold
// --------------------------------------------------------------------------------

void CheckDecisions(const Policy& policy, const Identity& identity, const std::string& vm_id) {
  Policy reversed = policy;
  std::reverse(reversed.bindings.begin(), reversed.bindings.end());
  bool permitted_somewhere = false;
  for (const Role needs : kRoles) {
    const auth::Verdict verdict = auth::Decide(policy, identity, needs);
    const bool holds = verdict.permitted && verdict.vms.Holds(vm_id);
    FUZZ_CHECK(Agrees(Permitted(policy, identity, needs), verdict.permitted));
    FUZZ_CHECK(Agrees(PermittedVm(policy, identity, needs, vm_id), holds));
    FUZZ_CHECK(verdict.permitted || (!verdict.vms.all && verdict.vms.patterns.empty()));
    // The order of the bindings means nothing.
    const auth::Verdict other = auth::Decide(reversed, identity, needs);
    FUZZ_CHECK(other.permitted == verdict.permitted);
    FUZZ_CHECK((other.permitted && other.vms.Holds(vm_id)) == holds);
    permitted_somewhere = permitted_somewhere || verdict.permitted;
  }
  FUZZ_CHECK((auth::RolesInWords(policy, identity) != "none") == permitted_somewhere);
  FUZZ_CHECK(!auth::NameOf(identity).empty());
  for (const Role needs : kRoles) FUZZ_CHECK(!auth::Decide(policy, Identity(), needs).permitted);
  FUZZ_CHECK(!auth::Decide(Policy(), identity, Role::kPeer).permitted);
}

// What no file can say, because a reader refuses it.
void CheckIsSound(const Policy& policy) {
  for (const Binding& binding : policy.bindings) {
    FUZZ_CHECK(!binding.plain_tcp);
    FUZZ_CHECK(!binding.users.empty() || !binding.groups.empty() || !binding.certificates.empty() ||
               binding.anonymous);
    FUZZ_CHECK(binding.vms.all == binding.vms.patterns.empty());
    if (binding.role == Role::kVmm) FUZZ_CHECK(binding.certificates.empty() && !binding.anonymous);
    if (binding.role == Role::kAdmin || binding.role == Role::kPeer) FUZZ_CHECK(binding.vms.all);
  }
}

bool Same(const Binding& a, const Binding& b) {
  return a.role == b.role && a.users == b.users && a.groups == b.groups &&
         a.certificates == b.certificates && a.anonymous == b.anonymous &&
         a.plain_tcp == b.plain_tcp && a.vms.all == b.vms.all && a.vms.patterns == b.vms.patterns;
}

// --- Making up
// -------------------------------------------------------------------------------------

template <size_t kCount>
std::string Pieces(Bytes& bytes, const char* const (&pieces)[kCount]) {
  std::string out;
  for (int left = bytes.Take<uint8_t>() % 5; left > 0; --left)
    out += pieces[bytes.Take<uint8_t>() % kCount];
  return out;
}

std::string MakeUri(Bytes& bytes) {
  const bool other = bytes.Take<uint8_t>() % 8 == 0;
  return absl::StrCat("spiffe://example.", other ? "com" : "org", Pieces(bytes, kUriPieces));
}

std::string MakeDns(Bytes& bytes) { return "a" + Pieces(bytes, kDnsPieces); }

std::vector<uint32_t> MakeNumbers(Bytes& bytes) {
  std::vector<uint32_t> numbers;
  for (int left = bytes.Take<uint8_t>() % 4; left > 0; --left)
    numbers.push_back(bytes.Take<uint8_t>() % 8);
  return numbers;
}

Identity MakeIdentity(Bytes& bytes) {
  Identity identity;
  const uint8_t kind = bytes.Take<uint8_t>();
  identity.kind = static_cast<Identity::Kind>(kind % 4);
  identity.tls = kind >= 128;
  identity.uid = bytes.Take<uint8_t>() % 8;
  identity.gid = bytes.Take<uint8_t>() % 8;
  identity.groups = MakeNumbers(bytes);
  identity.address = "ipv4:10.0.0.1:4711";
  for (int left = bytes.Take<uint8_t>() % 3; left > 0; --left)
    identity.uris.push_back(MakeUri(bytes));
  for (int left = bytes.Take<uint8_t>() % 3; left > 0; --left)
    identity.dns.push_back(MakeDns(bytes));
  // Names that nobody thought of; an empty one is none.
  for (auto* names : {&identity.uris, &identity.dns}) {
    if (bytes.Take<uint8_t>() % 4 != 0) continue;
    if (std::string name = bytes.TakeSized(); !name.empty()) names->push_back(std::move(name));
  }
  return identity;
}

Binding MakeBinding(Bytes& bytes) {
  Binding binding;
  binding.role = kRoles[bytes.Take<uint8_t>() % std::size(kRoles)];
  binding.users = MakeNumbers(bytes);
  binding.groups = MakeNumbers(bytes);
  if (binding.role != Role::kVmm) {
    binding.anonymous = bytes.Take<uint8_t>() % 4 == 0;
    for (int left = bytes.Take<uint8_t>() % 3; left > 0; --left) {
      const bool dns = bytes.Take<uint8_t>() % 2 == 0;
      binding.certificates.push_back(dns ? "dns:" + MakeDns(bytes) : MakeUri(bytes));
    }
  }
  if (binding.users.empty() && binding.groups.empty() && binding.certificates.empty() &&
      !binding.anonymous)
    binding.users = {7};
  if (binding.role != Role::kAdmin && binding.role != Role::kPeer) {
    for (int left = bytes.Take<uint8_t>() % 3; left > 0; --left)
      binding.vms.patterns.push_back("w" + Pieces(bytes, kVmPieces));
    binding.vms.all = binding.vms.patterns.empty();
  }
  return binding;
}

// --- Writing down
// ----------------------------------------------------------------------------------

void Line(std::string& out, const char* key, const std::vector<std::string>& words) {
  if (words.empty()) return;
  absl::StrAppend(&out, "    ", key, ": [\"", absl::StrJoin(words, "\", \""), "\"]\n");
}

std::vector<std::string> Words(const std::vector<uint32_t>& numbers) {
  std::vector<std::string> words;
  for (const uint32_t number : numbers) words.push_back(absl::StrCat(number));
  return words;
}

std::string Print(const Policy& policy) {
  std::string out = policy.bindings.empty() ? "bindings: []\n" : "bindings:\n";
  for (const Binding& binding : policy.bindings) {
    absl::StrAppend(&out, "  - role: ", auth::NameOf(binding.role), "\n");
    Line(out, "users", Words(binding.users));
    Line(out, "groups", Words(binding.groups));
    Line(out, "certificates", binding.certificates);
    Line(out, "vms", binding.vms.patterns);
    if (binding.anonymous) absl::StrAppend(&out, "    anonymous: true\n");
  }
  return out;
}

// --- The two kinds of input
// ------------------------------------------------------------------------

void TryMadeUp(Bytes& bytes) {
  const Identity identity = MakeIdentity(bytes);
  const std::string vm_id = "w" + Pieces(bytes, kVmPieces);
  Policy policy;
  while (!bytes.empty() && policy.bindings.size() < 8)
    policy.bindings.push_back(MakeBinding(bytes));
  const auto read = auth::ParsePolicy(Print(policy), kName, Numbers());
  // A bracket that another piece does not close is the one fault that can be made up.
  if (!read.ok()) {
    FUZZ_CHECK(absl::StrContains(read.status().message(), "[ without its ]"));
    return;
  }
  FUZZ_CHECK(std::equal(policy.bindings.begin(), policy.bindings.end(), read->bindings.begin(),
                        read->bindings.end(), Same));
  CheckIsSound(*read);
  CheckDecisions(*read, identity, vm_id);
}

void TryText(Bytes& bytes) {
  Bytes of_identity = bytes;
  const Identity identity = MakeIdentity(of_identity);
  const std::string text = bytes.TakeRest();
  const auto policy = auth::ParsePolicy(text, kName, Numbers());
  if (!policy.ok()) {
    FUZZ_CHECK(absl::StartsWith(policy.status().message(), kName));
    return;
  }
  CheckIsSound(*policy);
  for (const Binding& binding : policy->bindings) {
    // Whom a binding names is who it is about, and at least a caller by each of its names.
    for (const uint32_t uid : binding.users) {
      Identity user;
      user.kind = Identity::Kind::kUnix;
      user.uid = uid;
      FUZZ_CHECK(auth::Decide(*policy, user, binding.role).permitted);
      CheckDecisions(*policy, user, "web-1");
    }
  }
  CheckDecisions(*policy, identity, "web-1");
  const auto again = auth::ParsePolicy(Print(*policy), kName, Numbers());
  // What no double quotes can hold is not printed right by the few lines above.
  const bool printable =
      std::all_of(policy->bindings.begin(), policy->bindings.end(), [](const Binding& binding) {
        const std::string all =
            absl::StrJoin(binding.certificates, "") + absl::StrJoin(binding.vms.patterns, "");
        return !absl::StrContains(all, "\"");
      });
  if (!printable) return;
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(std::equal(policy->bindings.begin(), policy->bindings.end(), again->bindings.begin(),
                        again->bindings.end(), Same));
}

std::string Input(Kind kind, const std::string& rest) {
  return std::string(1, static_cast<char>(kind)) + rest;
}

}  // namespace

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds = {
      Input(kText, "bindings:\n  - role: admin\n    users: [0, 1000]\n    groups: 7\n"),
      Input(kText,
            "bindings:\n  - role: orchestrator\n"
            "    certificates: [\"spiffe://example.org/a/*\", \"dns:a.example.org\"]\n"
            "    vms: [\"web-*\", \"db-[0-9]\"]\n"),
      Input(kText, "bindings:\n  - {role: viewer, anonymous: true}\n  - {role: vmm, users: 5}\n"),
      Input(kText, "bindings: []\n"),
      // yaml-cpp made documents without end of it.
      Input(kText, ","),
      Input(kText, "bindings: &b\n  - {role: peer, users: &u [1], groups: *u}\n  - *b\n"),
      Input(kText, "bindings:\n  - {role: viewer, users: 1, vms: [\"[[:alpha:]]*\", \"[]]\"]}\n"),
      Input(kText, std::string(600, '[')),
      Input(kText, "{bindings: [{role: admin, users: [!!str 1, ~]}]}\n---\n"),
  };
  uint32_t value = 1;
  for (int i = 0; i < 12; ++i) {
    std::string rest;
    for (int byte = 0; byte < 40 + 20 * i; ++byte) {
      value = value * 1'664'525 + 1'013'904'223;
      rest.push_back(static_cast<char>(value >> 24));
    }
    seeds.push_back(Input(kMadeUp, rest));
  }
  return seeds;
}

}  // namespace tsc_handoff::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tsc_handoff::fuzz::Bytes bytes(data, size);
  if (bytes.Take<uint8_t>() % tsc_handoff::fuzz::kKinds == tsc_handoff::fuzz::kText) {
    tsc_handoff::fuzz::TryText(bytes);
  } else {
    tsc_handoff::fuzz::TryMadeUp(bytes);
  }
  return 0;
}
