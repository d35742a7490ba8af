#include "server/agent/connection_load.h"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace tsc_handoff::agent {
namespace {

using nlohmann::json;

constexpr int64_t kManyFailures = 1000;

struct Freed {
  void operator()(char* text) const { gpr_free(text); }
};
using Text = std::unique_ptr<char, Freed>;

json Parse(absl::string_view text) {
  return json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

// Numbers of 64 bits are text in JSON made of proto messages; what is 0 is left out.
int64_t NumberAt(const json& object, const char* key) {
  const auto found = object.find(key);
  int64_t number = 0;
  if (found == object.end() || !found->is_string()) return 0;
  return absl::SimpleAtoi(found->get_ref<const std::string&>(), &number) ? number : 0;
}

const json& At(const json& object, const char* key) {
  static const json* const kNothing = new json(json::object());
  if (!object.is_object()) return *kNothing;
  const auto found = object.find(key);
  return found == object.end() || !found->is_object() ? *kNothing : *found;
}

// The highest id so far: that of a channel which is made to have one.
int64_t HighestId(int64_t at_least) {
  grpc::ChannelArguments arguments;
  const auto channel =
      grpc::CreateCustomChannel("unix:/", grpc::InsecureChannelCredentials(), arguments);
  const Text text(grpc_channelz_get_top_channels(at_least));
  int64_t highest = at_least - 1;
  const json page = Parse(text.get());
  if (!page.is_object()) return highest;
  const auto channels = page.find("channel");
  if (channels == page.end() || !channels->is_array()) return highest;
  for (const json& each : *channels)
    highest = std::max(highest, NumberAt(At(each, "ref"), "channelId"));
  return highest;
}

}  // namespace

bool IsFlood(const ConnectionLoad& before, const ConnectionLoad& now, uint32_t max_streams) {
  if (now.open() > 2 * int64_t{max_streams}) return true;
  const int64_t failed = now.failed - before.failed;
  return failed > kManyFailures && failed > now.succeeded - before.succeeded;
}

ConnectionLoad ParseLoad(absl::string_view text) {
  const json parsed = Parse(text);
  const json& socket = At(parsed, "socket");
  const json& data = At(socket, "data");
  ConnectionLoad load;
  const auto name = At(socket, "ref").find("name");
  if (name == At(socket, "ref").end() || !name->is_string()) return load;
  absl::string_view peer = name->get_ref<const std::string&>();
  if (!absl::ConsumePrefix(&peer, "chttp2 ")) return load;
  load.peer = std::string(peer);
  load.begun = NumberAt(data, "streamsStarted");
  load.succeeded = NumberAt(data, "streamsSucceeded");
  load.failed = NumberAt(data, "streamsFailed");
  return load;
}

std::vector<ConnectionLoads::Change> ConnectionLoads::Look() {
  for (const int64_t last = HighestId(next_id_); next_id_ <= last; ++next_id_)
    known_.emplace(next_id_, ConnectionLoad());
  std::vector<Change> changes;
  for (auto it = known_.begin(); it != known_.end();) {
    const Text text(grpc_channelz_get_socket(it->first));
    const ConnectionLoad now = text == nullptr ? ConnectionLoad() : ParseLoad(text.get());
    if (now.peer.empty()) {  // it has ended, or is something else
      it = known_.erase(it);
      continue;
    }
    changes.push_back({it->second, now});
    it->second = now;
    ++it;
  }
  return changes;
}

}  // namespace tsc_handoff::agent
