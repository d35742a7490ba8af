#include "server/agent/self_probe.h"

#include <grpcpp/grpcpp.h>

#include <future>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tsc_handoff::agent {
namespace {

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";

std::string Target(const std::string& address, int port) {
  if (absl::StartsWith(address, "unix:")) return address;
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

std::shared_ptr<grpc::Channel> Connect(const std::string& target) {
  grpc::ChannelArguments arguments;
  // Its own connection: one that hangs must not be shared with another user of the same address.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A proxy in the environment is for other hosts.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

SelfProbe::SelfProbe(const std::string& address, int port)
    : stub_(Connect(Target(address, port))) {}

bool SelfProbe::Answers(absl::Duration limit) { return Ask("", limit).has_value(); }

bool SelfProbe::Serves(const std::string& service, absl::Duration limit) {
  return Ask(service, limit) == std::string("\x08\x01");  // field 1, SERVING
}

std::optional<std::string> SelfProbe::Ask(const std::string& service, absl::Duration limit) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + limit));
  // The request has one field, a string; that for the whole server leaves it out, and has no bytes.
  const std::string message =
      service.empty()
          ? ""
          : absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
  const grpc::Slice slice(message);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub_.UnaryCall(&context, kCheck, grpc::StubOptions(), &request, &response,
                  [&done](grpc::Status status) { done.set_value(std::move(status)); });
  if (!done.get_future().get().ok()) return std::nullopt;
  std::vector<grpc::Slice> slices;
  if (!response.Dump(&slices).ok()) return std::nullopt;
  std::string answer;
  for (const grpc::Slice& part : slices)
    answer.append(reinterpret_cast<const char*>(part.begin()), part.size());
  return answer;
}

}  // namespace tsc_handoff::agent
