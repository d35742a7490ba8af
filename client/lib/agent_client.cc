#include "client/lib/agent_client.h"

#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/error_details.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/lib/rpc_error.h"
#include "google/rpc/status.pb.h"
#include "server/tls/channel_credentials.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::client {

namespace v1 = ::tschandoff::v1;

struct AgentClient::Rpc {
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::TscAgent::StubInterface> stub;
  std::mutex mutex;
  bool stopped = false;                          // guarded by mutex
  std::set<grpc::ClientContext*> contexts = {};  // guarded by mutex; of what Stop() ends
};

namespace {

// Enough for a million VMs: an agent that never ends its pages must not hold its client for ever.
constexpr int kMaxPages = 1000;
constexpr uint32_t kPageSize = 1000;
constexpr absl::string_view kSetTscState = "SetTscState";
constexpr absl::Duration kConnectPatience = absl::Milliseconds(100);

bool Changes(absl::string_view method) {
  return method == kSetTscState || method == "CommitHandoff" || method == "AbortHandoff";
}

absl::Status BadTarget(absl::string_view target, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("agent address \"", target, "\": ", why,
                   "; use unix:/path/to/agent.sock or HOST:PORT, for example 127.0.0.1:50051"));
}

absl::Status CheckUnixPath(absl::string_view target, absl::string_view path) {
  if (path.empty()) return BadTarget(target, "no path after unix:");
  const size_t limit = sizeof(sockaddr_un{}.sun_path) - 1;
  if (path.size() > limit) {
    return BadTarget(target, absl::StrCat("the path has ", path.size(),
                                          " bytes, a Unix socket's at most ", limit));
  }
  return absl::OkStatus();
}

absl::Status CheckTarget(absl::string_view target) {
  if (target.empty()) return BadTarget(target, "empty");
  if (target.find_first_of(absl::string_view(" \t\r\n\0", 5)) != absl::string_view::npos) {
    return BadTarget(target, "has white space in it");
  }
  if (target.front() == '/' || target.front() == '.')
    return BadTarget(target, "a socket's path needs unix: in front");
  if (absl::StartsWith(target, "unix:")) return CheckUnixPath(target, target.substr(5));
  if (absl::StartsWith(target, "http://") || absl::StartsWith(target, "https://"))
    return BadTarget(target, "is a URL");
  // Other schemes (dns:, ipv4:, ipv6:, unix-abstract:, xds:) are gRPC's business.
  const size_t colon = target.rfind(':');
  if (colon == absl::string_view::npos) return BadTarget(target, "has no port");
  if (target.find(':') != colon && target.front() != '[') return absl::OkStatus();
  if (absl::StartsWith(target, "dns:") || absl::StartsWith(target, "unix-abstract:"))
    return absl::OkStatus();
  const absl::string_view port_text = target.substr(colon + 1);
  int port = 0;
  if (!absl::SimpleAtoi(port_text, &port) || port < 1 || port > 65535) {
    return BadTarget(target,
                     absl::StrCat("port \"", port_text, "\" is not a number from 1 to 65535"));
  }
  if (colon == 0) return BadTarget(target, "no host in front of the port");
  return absl::OkStatus();
}

grpc::ChannelArguments ChannelArgs() {
  grpc::ChannelArguments args;
  // Agents are reached directly: neither a web proxy of the environment nor DNS TXT records have a
  // say.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // gRPC's first reconnect comes after 1 s by default: our retries would all meet the same old
  // failure.
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  // GRPC_ARG_MIN_RECONNECT_BACKOFF_MS stays at its default: it is how long ONE attempt may take.
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return args;
}

gpr_timespec After(absl::Duration left) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(left), GPR_TIMESPAN));
}

void SetDeadline(absl::Duration left, grpc::ClientContext* context) {
  context->set_deadline(After(left));
}

// The context of one call that Stop() ends, as long as it lives. `Rpc` is AgentClient's.
template <typename Rpc>
class StoppableContext {
 public:
  explicit StoppableContext(Rpc& rpc) : rpc_(rpc) {
    const std::lock_guard<std::mutex> lock(rpc_.mutex);
    rpc_.contexts.insert(&context_);
    if (rpc_.stopped) context_.TryCancel();
  }
  StoppableContext(Rpc& rpc, absl::Duration left) : StoppableContext(rpc) {
    SetDeadline(left, &context_);
  }
  ~StoppableContext() {
    const std::lock_guard<std::mutex> lock(rpc_.mutex);
    rpc_.contexts.erase(&context_);
  }
  StoppableContext(const StoppableContext&) = delete;
  StoppableContext& operator=(const StoppableContext&) = delete;

  grpc::ClientContext* get() { return &context_; }

 private:
  Rpc& rpc_;
  grpc::ClientContext context_;
};

// gRPC looks at its sockets while somebody waits in it, and otherwise every 5 s. After a failed
// attempt to connect calls fail at once, without waiting, so that nobody would see the next attempt
// succeed: an agent that was started again would seem to be away for seconds.
void GiveConnectingAChance(grpc::Channel& channel, absl::Duration left) {
  if (channel.GetState(/*try_to_connect=*/true) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
    channel.WaitForStateChange(GRPC_CHANNEL_TRANSIENT_FAILURE,
                               After(std::min(left, kConnectPatience)));
  }
}

// gRPC's text for a failed connection without what it says about its own workings.
std::string ConnectionError(const std::string& text) {
  static constexpr absl::string_view kNoise = "last error: UNKNOWN: ";
  const size_t noise = text.rfind(std::string(kNoise));
  return noise == std::string::npos ? text : text.substr(noise + kNoise.size());
}

absl::Status FromGrpc(const grpc::Status& from, absl::string_view target,
                      absl::string_view method) {
  if (from.ok()) return absl::OkStatus();
  const auto code = static_cast<absl::StatusCode>(from.error_code());
  google::rpc::Status details;
  if (!from.error_details().empty() && grpc::ExtractErrorDetails(from, &details).ok()) {
    absl::Status status(code, details.message().empty() ? from.error_message() : details.message());
    AttachDetails(details, &status);
    if (IsFromAgent(status)) return status;
  }
  switch (code) {
    case absl::StatusCode::kUnavailable:
      // SetTscState is sent over a connection that stands only; of the others it is not known.
      if (Changes(method)) {
        return absl::UnavailableError(absl::StrCat("the connection to agent ", target,
                                                   " was lost during ", method, ": ",
                                                   ConnectionError(from.error_message())));
      }
      return absl::UnavailableError(absl::StrCat(
          "agent ", target, " cannot be reached: ", ConnectionError(from.error_message())));
    case absl::StatusCode::kDeadlineExceeded:
      return absl::DeadlineExceededError(
          absl::StrCat("agent ", target, " did not answer ", method, " in time"));
    default:
      return absl::Status(code,
                          absl::StrCat(method, " at agent ", target, ": ", from.error_message()));
  }
}

// Whether an agent can have acted before a SetTscState ended so. Codes that a server gives before
// it starts are out.
bool MayHaveActed(const absl::Status& status) {
  if (status.ok() || IsFromAgent(status)) return false;
  switch (status.code()) {
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
      return false;
    default:
      return true;
  }
}

// The one method of each request, and its name.
template <typename Request>
struct MethodOf;
#define TSC_HANDOFF_METHOD(NAME)                                                              \
  template <>                                                                                 \
  struct MethodOf<v1::NAME##Request> {                                                        \
    using Response = v1::NAME##Response;                                                      \
    static constexpr absl::string_view kName = #NAME;                                         \
    static grpc::Status Call(v1::TscAgent::StubInterface& stub, grpc::ClientContext* context, \
                             const v1::NAME##Request& request, Response* response) {          \
      return stub.NAME(context, request, response);                                           \
    }                                                                                         \
  }
TSC_HANDOFF_METHOD(GetHostInfo);
TSC_HANDOFF_METHOD(GetVm);
TSC_HANDOFF_METHOD(GetTscState);
TSC_HANDOFF_METHOD(SetTscState);
TSC_HANDOFF_METHOD(CommitHandoff);
TSC_HANDOFF_METHOD(AbortHandoff);
TSC_HANDOFF_METHOD(GetHandoff);
#undef TSC_HANDOFF_METHOD

template <typename Request>
absl::StatusOr<AgentAnswer> CallOnce(v1::TscAgent::StubInterface& stub, const std::string& target,
                                     absl::Duration timeout, const Request& request) {
  using Method = MethodOf<Request>;
  grpc::ClientContext context;
  SetDeadline(timeout, &context);
  typename Method::Response response;
  absl::Status status =
      FromGrpc(Method::Call(stub, &context, request, &response), target, Method::kName);
  if (status.ok()) return AgentAnswer(std::move(response));
  return Changes(Method::kName) && MayHaveActed(status) ? MarkOutcomeUnknown(status) : status;
}

absl::Status BadAnswer(absl::string_view target, absl::string_view what) {
  return absl::InternalError(absl::StrCat("agent ", target, " sent an answer ", what));
}

}  // namespace

absl::StatusOr<std::unique_ptr<AgentClient>> AgentClient::Connect(absl::string_view target,
                                                                  AgentClientOptions options) {
  if (absl::Status status = CheckTarget(target); !status.ok()) return status;
  if (options.timeout <= absl::ZeroDuration() || options.timeout > absl::Hours(24)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timeout ", absl::FormatDuration(options.timeout), " is not above 0 and at most 24h"));
  }
  if (options.retry.max_attempts < 1)
    return absl::InvalidArgumentError("retry.max_attempts must be at least 1");
  if (options.credentials == nullptr) options.credentials = grpc::InsecureChannelCredentials();
  auto rpc = std::make_unique<Rpc>();
  grpc::ChannelArguments args = ChannelArgs();
  tls::ExpectServerName(options.tls_server_name, args);
  rpc->channel = grpc::CreateCustomChannel(std::string(target), options.credentials, args);
  rpc->stub = v1::TscAgent::NewStub(rpc->channel);
  return std::unique_ptr<AgentClient>(
      new AgentClient(std::string(target), std::move(options), std::move(rpc)));
}

AgentClient::AgentClient(std::string target, AgentClientOptions options, std::unique_ptr<Rpc> rpc)
    : target_(std::move(target)), options_(std::move(options)), rpc_(std::move(rpc)) {}

AgentClient::~AgentClient() = default;

absl::Status AgentClient::Read(const std::function<absl::Status(absl::Duration)>& attempt) {
  return CallWithRetry(options_.retry, options_.time, options_.timeout, IsUnreachable,
                       [&](absl::Duration left) {
                         GiveConnectingAChance(*rpc_->channel, left);
                         return attempt(left);
                       });
}

absl::StatusOr<v1::HostInfo> AgentClient::GetHostInfo() {
  v1::GetHostInfoResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    StoppableContext context(*rpc_, left);
    return FromGrpc(rpc_->stub->GetHostInfo(context.get(), v1::GetHostInfoRequest(), &response),
                    target_, "GetHostInfo");
  });
  if (!status.ok()) return status;
  if (!response.has_host()) return BadAnswer(target_, "without a host");
  return std::move(*response.mutable_host());
}

absl::StatusOr<std::vector<v1::Vm>> AgentClient::ListVms() {
  std::vector<v1::Vm> vms;
  v1::ListVmsRequest request;
  request.set_page_size(kPageSize);
  for (int page = 0; page < kMaxPages; ++page) {
    v1::ListVmsResponse response;
    absl::Status status = Read([&](absl::Duration left) {
      StoppableContext context(*rpc_, left);
      return FromGrpc(rpc_->stub->ListVms(context.get(), request, &response), target_, "ListVms");
    });
    if (!status.ok()) return status;
    for (v1::Vm& vm : *response.mutable_vms()) vms.push_back(std::move(vm));
    if (response.next_page_token().empty()) return vms;
    if (response.next_page_token() == request.page_token())
      return BadAnswer(target_, "whose next page is itself");
    request.set_page_token(response.next_page_token());
  }
  return BadAnswer(target_, absl::StrCat("of more than ", kMaxPages, " pages"));
}

absl::StatusOr<v1::Vm> AgentClient::GetVm(absl::string_view vm_id) {
  v1::GetVmRequest request;
  request.set_vm_id(std::string(vm_id));
  v1::GetVmResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    StoppableContext context(*rpc_, left);
    return FromGrpc(rpc_->stub->GetVm(context.get(), request, &response), target_, "GetVm");
  });
  if (!status.ok()) return status;
  if (!response.has_vm()) return BadAnswer(target_, "without a VM");
  return std::move(*response.mutable_vm());
}

absl::StatusOr<v1::GetTscStateResponse> AgentClient::GetTscState(absl::string_view vm_id) {
  v1::GetTscStateRequest request;
  request.set_vm_id(std::string(vm_id));
  v1::GetTscStateResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    StoppableContext context(*rpc_, left);
    return FromGrpc(rpc_->stub->GetTscState(context.get(), request, &response), target_,
                    "GetTscState");
  });
  if (!status.ok()) return status;
  if (!response.has_state()) return BadAnswer(target_, "without a state");
  return response;
}

absl::StatusOr<v1::CompareClocksResponse> AgentClient::CompareClocks(absl::string_view peer) {
  v1::CompareClocksRequest request;
  request.set_peer(std::string(peer));
  v1::CompareClocksResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    StoppableContext context(*rpc_, left);
    return FromGrpc(rpc_->stub->CompareClocks(context.get(), request, &response), target_,
                    "CompareClocks");
  });
  if (!status.ok()) return status;
  if (!response.has_probe()) return BadAnswer(target_, "without a probe");
  if (!response.has_local() || !response.has_peer())
    return BadAnswer(target_, "without both hosts' claims");
  return response;
}

absl::StatusOr<v1::DrainResponse> AgentClient::Drain(v1::DrainRequest::Mode mode) {
  v1::DrainRequest request;
  request.set_mode(mode);
  v1::DrainResponse response;
  // To drain twice is to drain once, so that it is repeated like a reading call.
  absl::Status status = Read([&](absl::Duration left) {
    grpc::ClientContext context;
    SetDeadline(left, &context);
    return FromGrpc(rpc_->stub->Drain(&context, request, &response), target_, "Drain");
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::ReclaimVmResponse> AgentClient::ReclaimVm(const v1::ReclaimVmRequest& request) {
  v1::ReclaimVmResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    grpc::ClientContext context;
    SetDeadline(left, &context);
    return FromGrpc(rpc_->stub->ReclaimVm(&context, request, &response), target_, "ReclaimVm");
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::DisownVmResponse> AgentClient::DisownVm(absl::string_view vm_id,
                                                           absl::string_view handoff_id) {
  v1::DisownVmRequest request;
  request.set_vm_id(std::string(vm_id));
  request.set_handoff_id(std::string(handoff_id));
  v1::DisownVmResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    grpc::ClientContext context;
    SetDeadline(left, &context);
    return FromGrpc(rpc_->stub->DisownVm(&context, request, &response), target_, "DisownVm");
  });
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::ReloadResponse> AgentClient::Reload() {
  v1::ReloadResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    grpc::ClientContext context;
    SetDeadline(left, &context);
    return FromGrpc(rpc_->stub->Reload(&context, {}, &response), target_, "Reload");
  });
  if (!status.ok()) return status;
  return response;
}

absl::Status AgentClient::EnsureConnected() {
  if (rpc_->channel->GetState(/*try_to_connect=*/true) == GRPC_CHANNEL_READY)
    return absl::OkStatus();
  // A harmless call connects, and says why where it cannot. Any other answer proves that the agent
  // is there.
  const absl::Status status = GetHostInfo().status();
  if (IsUnreachable(status) || status.code() == absl::StatusCode::kDeadlineExceeded) return status;
  return absl::OkStatus();
}

absl::StatusOr<v1::SetTscStateResponse> AgentClient::SetTscState(
    const v1::SetTscStateRequest& request) {
  if (absl::Status status = EnsureConnected(); !status.ok()) return status;
  const bool may_repeat = request.validate_only() ||
                          (options_.retry_elapsed_set && request.mode() == v1::APPLY_MODE_ELAPSED);
  bool outcome_unknown = false;
  v1::SetTscStateResponse response;
  const absl::Status status = CallWithRetry(
      options_.retry, options_.time, options_.timeout,
      [&](const absl::Status& failed) {
        return may_repeat && failed.code() == absl::StatusCode::kUnavailable &&
               !IsFromAgent(failed);
      },
      [&](absl::Duration left) {
        grpc::ClientContext context;
        SetDeadline(left, &context);
        absl::Status result =
            FromGrpc(rpc_->stub->SetTscState(&context, request, &response), target_, kSetTscState);
        // Stays so through a later attempt's refusal: that one tells nothing about the first.
        if (MayHaveActed(result) && !request.validate_only()) outcome_unknown = true;
        return result;
      });
  if (status.ok()) return response;
  return outcome_unknown ? MarkOutcomeUnknown(status) : status;
}

absl::StatusOr<std::vector<v1::Handoff>> AgentClient::ListHandoffs(const HandoffFilter& filter) {
  std::vector<v1::Handoff> handoffs;
  v1::ListHandoffsRequest request;
  request.set_page_size(kPageSize);
  request.set_vm_id(filter.vm_id);
  request.set_pending_only(filter.pending_only);
  request.set_undecided_only(filter.undecided_only);
  for (int page = 0; page < kMaxPages; ++page) {
    v1::ListHandoffsResponse response;
    absl::Status status = Read([&](absl::Duration left) {
      StoppableContext context(*rpc_, left);
      return FromGrpc(rpc_->stub->ListHandoffs(context.get(), request, &response), target_,
                      "ListHandoffs");
    });
    if (!status.ok()) return status;
    for (v1::Handoff& handoff : *response.mutable_handoffs())
      handoffs.push_back(std::move(handoff));
    if (response.next_page_token().empty()) return handoffs;
    if (response.next_page_token() == request.page_token())
      return BadAnswer(target_, "whose next page is itself");
    request.set_page_token(response.next_page_token());
  }
  return BadAnswer(target_, absl::StrCat("of more than ", kMaxPages, " pages"));
}

absl::StatusOr<v1::GetHandoffResponse> AgentClient::GetHandoff(absl::string_view handoff_id) {
  v1::GetHandoffRequest request;
  request.set_handoff_id(std::string(handoff_id));
  v1::GetHandoffResponse response;
  absl::Status status = Read([&](absl::Duration left) {
    StoppableContext context(*rpc_, left);
    return FromGrpc(rpc_->stub->GetHandoff(context.get(), request, &response), target_,
                    "GetHandoff");
  });
  if (!status.ok()) return status;
  return response;
}

// Begins with the first Next(), because beginning may wait for the connection.
class AgentClient::Stream final : public HandoffStream {
 public:
  Stream(AgentClient& client, absl::string_view vm_id) : client_(client), context_(*client.rpc_) {
    request_.set_vm_id(std::string(vm_id));
  }

  bool Next(v1::WatchHandoffsResponse* change) override {
    if (reader_ == nullptr) {
      GiveConnectingAChance(*client_.rpc_->channel, client_.options_.timeout);
      reader_ = client_.rpc_->stub->WatchHandoffs(context_.get(), request_);
    }
    return reader_->Read(change);
  }

  absl::Status Finish() override {
    if (reader_ == nullptr) return absl::CancelledError("the stream was not begun");
    return FromGrpc(reader_->Finish(), client_.target_, "WatchHandoffs");
  }

  void Cancel() override { context_.get()->TryCancel(); }

 private:
  AgentClient& client_;
  v1::WatchHandoffsRequest request_;
  StoppableContext<Rpc> context_;
  std::unique_ptr<grpc::ClientReaderInterface<v1::WatchHandoffsResponse>> reader_;
};

std::unique_ptr<HandoffStream> AgentClient::WatchHandoffs(absl::string_view vm_id) {
  return std::make_unique<Stream>(*this, vm_id);
}

void AgentClient::Stop() {
  const std::lock_guard<std::mutex> lock(rpc_->mutex);
  rpc_->stopped = true;
  for (grpc::ClientContext* context : rpc_->contexts) context->TryCancel();
}

absl::StatusOr<AgentAnswer> AgentClient::Call(const AgentRequest& request) {
  GiveConnectingAChance(*rpc_->channel, options_.timeout);
  return std::visit(
      [this](const auto& typed) { return CallOnce(*rpc_->stub, target_, options_.timeout, typed); },
      request);
}

void QuietGrpcLog() {
  if (std::getenv("GRPC_VERBOSITY") != nullptr) return;
  gpr_set_log_function([](gpr_log_func_args*) {});
}

}  // namespace tsc_handoff::client
