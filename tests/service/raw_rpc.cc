#include "tests/service/raw_rpc.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <vector>

namespace tsc_handoff {
namespace {

constexpr std::chrono::seconds kDeadline{20};

grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices)
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

absl::Status ToStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// Waits for the operation started last. False when it failed, as the end of a stream does.
bool Next(grpc::CompletionQueue& queue) {
  void* tag;
  bool succeeded = false;
  return queue.Next(&tag, &succeeded) && succeeded;
}

}  // namespace

absl::StatusOr<std::string> RawUnary(const std::string& address, const std::string& method,
                                     const std::string& request) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareUnaryCall(&context, method, ToBuffer(request), &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  Next(queue);
  if (!status.ok()) return ToStatus(status);
  return ToString(answer);
}

absl::StatusOr<std::string> RawFirstOfStream(const std::string& address, const std::string& method,
                                             const std::string& request) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  bool good = Next(queue);
  grpc::ByteBuffer answer;
  if (good) {
    call->Write(ToBuffer(request), nullptr);
    good = Next(queue);
  }
  if (good) {
    call->Read(&answer, nullptr);
    good = Next(queue);
  }
  if (good) {
    call->WritesDone(nullptr);
    Next(queue);
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  Next(queue);
  if (!good) return status.ok() ? absl::UnknownError("the stream ended") : ToStatus(status);
  return ToString(answer);
}

}  // namespace tsc_handoff
