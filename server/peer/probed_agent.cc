#include "server/peer/probed_agent.h"

#include <chrono>
#include <cstdint>
#include <utility>

namespace tsc_handoff::peer {

namespace v1 = tschandoff::v1;

v1::ProbeClockResponse GoodAnswer(int call) {
  const auto number = static_cast<uint64_t>(call);
  v1::ProbeClockResponse response;
  response.set_boot_id(std::string(16, 'b'));
  response.set_host_tsc_khz(3'100'000);
  response.mutable_received()->set_host_tsc_ticks(1'000 * number + 1);
  response.mutable_received()->set_realtime_ns(1'000 * call + 2);
  response.mutable_received()->set_read_error_ns(1'000 * number + 3);
  response.mutable_sent()->set_host_tsc_ticks(1'000 * number + 4);
  response.mutable_sent()->set_realtime_ns(1'000 * call + 5);
  response.mutable_sent()->set_read_error_ns(1'000 * number + 6);
  response.mutable_clock()->set_trusted(true);
  response.mutable_clock()->set_status(v1::ClockInfo::STATUS_SYNCHRONISED);
  response.mutable_clock()->set_source("chrony");
  response.mutable_clock()->set_error_bound_ns(100'000 + number);
  response.mutable_clock()->set_realtime_ns(1'700'000'000'000'000'000 + call);
  return response;
}

PeerSecurityFor WithoutTls() {
  return [credentials = grpc::InsecureChannelCredentials()](const std::string&) {
    return PeerSecurity{credentials, ""};
  };
}

ProbedAgent::ProbedAgent(Script script) : script_(std::move(script)) {}

ProbedAgent::~ProbedAgent() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    silent_ = false;
    changed_.notify_all();
  }
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
}

bool ProbedAgent::Listen(const std::string& address, int* port) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  return server_ != nullptr;
}

void ProbedAgent::FallSilent() {
  std::lock_guard<std::mutex> lock(mutex_);
  silent_ = true;
}

int ProbedAgent::calls() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return calls_;
}

grpc::Status ProbedAgent::ProbeClock(grpc::ServerContext*, const v1::ProbeClockRequest*,
                                     v1::ProbeClockResponse* response) {
  std::unique_lock<std::mutex> lock(mutex_);
  const int call = calls_++;
  changed_.wait(lock, [&] { return !silent_; });
  *response = GoodAnswer(call);
  return script_ ? script_(call, *response) : grpc::Status::OK;
}

}  // namespace tsc_handoff::peer
