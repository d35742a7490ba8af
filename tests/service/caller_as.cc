#include "tests/service/caller_as.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/generic_stub.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "client/lib/rpc_error.h"
#include "google/rpc/status.pb.h"

namespace tsc_handoff {
namespace {

constexpr std::chrono::seconds kDeadline{20};

// The C library would change the ids of the whole process.
bool BecomeInThisThread(const User& user) {
  return syscall(SYS_setgroups, user.groups.size(), user.groups.data()) == 0 &&
         syscall(SYS_setresgid, user.gid, user.gid, user.gid) == 0 &&
         syscall(SYS_setresuid, user.uid, user.uid, user.uid) == 0;
}

bool Next(grpc::CompletionQueue& queue) {
  void* tag;
  bool succeeded = false;
  return queue.Next(&tag, &succeeded) && succeeded;
}

absl::Status ToAbsl(const grpc::Status& status) {
  absl::Status converted(static_cast<absl::StatusCode>(status.error_code()),
                         status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) client::AttachDetails(details, &converted);
  return converted;
}

}  // namespace

bool MayBeOthers() {
  bool can = false;
  std::thread([&] { can = BecomeInThisThread({61000, 61000, {62000}}); }).join();
  return can;
}

UniqueFd ConnectAs(const User& user, const std::string& path, int type) {
  UniqueFd connected;
  std::thread([&] {
    UniqueFd socket_fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    if (BecomeInThisThread(user) &&
        connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
      connected = std::move(socket_fd);
  }).join();
  return connected;
}

CallerAs::CallerAs(const User& user, const std::string& path) {
  UniqueFd socket_fd = ConnectAs(user, path);
  fcntl(socket_fd.get(), F_SETFL, fcntl(socket_fd.get(), F_GETFL) | O_NONBLOCK);
  channel_ = grpc::CreateInsecureChannelFromFd("agent", socket_fd.Release());
}

CallerAs::CallerAs(const std::string& address)
    : channel_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {}

absl::StatusOr<std::string> CallerAs::Call(const std::string& method,
                                           const std::string& request) const {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  grpc::CompletionQueue queue;
  auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  bool good = Next(queue);
  const grpc::Slice slice(request);
  if (good) {
    call->WriteLast(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), nullptr);
    good = Next(queue);
  }
  grpc::ByteBuffer answer;
  if (good) {
    call->Read(&answer, nullptr);
    good = Next(queue);
  }
  if (good) context.TryCancel();  // a stream would go on
  grpc::Status status;
  call->Finish(&status, nullptr);
  Next(queue);
  if (!good)
    return status.ok() ? absl::UnknownError("an answer without a message") : ToAbsl(status);
  std::vector<grpc::Slice> slices;
  std::string bytes;
  (void)answer.Dump(&slices);
  for (const grpc::Slice& part : slices)
    bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
  return bytes;
}

}  // namespace tsc_handoff
