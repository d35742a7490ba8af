#include "server/tls/testing/tls_server.h"

#include <chrono>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/tls/certificate_identity.h"
#include "server/tls/channel_credentials.h"
#include "server/tls/server_credentials.h"

namespace tsc_handoff::tls {

namespace v1 = tschandoff::v1;

TestStore::TestStore(const PemTexts& texts) {
  directory_.Put(texts);
  if (!store_.Load().ok()) std::abort();
}

void TestStore::Swap(const PemTexts& texts) {
  directory_.Put(texts);
  if (!store_.Reload()) std::abort();
}

grpc::Status TlsServer::Service::GetHostInfo(grpc::ServerContext* context,
                                             const v1::GetHostInfoRequest*,
                                             v1::GetHostInfoResponse* response) {
  response->mutable_host()->set_host_name(
      absl::StrJoin(CertificateIdentities(*context->auth_context()), " "));
  return grpc::Status::OK;
}

TlsServer::TlsServer(const CertificateStore& store, int ports)
    : ports_(static_cast<size_t>(ports)) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (int& port : ports_) {
    credentials_.push_back(MakeServerCredentials(store));
    builder.AddListeningPort("127.0.0.1:0", credentials_.back(), &port);
  }
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) std::abort();
}

TlsServer::~TlsServer() { server_->Shutdown(std::chrono::system_clock::now()); }

TlsCaller::TlsCaller(const std::string& address,
                     const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                     const std::string& server_name) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  ExpectServerName(server_name, arguments);
  stub_ = v1::TscAgent::NewStub(grpc::CreateCustomChannel(address, credentials, arguments));
}

std::string TlsCaller::Ask() {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::GetHostInfoResponse response;
  const grpc::Status status = stub_->GetHostInfo(&context, {}, &response);
  if (status.ok()) return response.host().host_name();
  return absl::StrCat("(", static_cast<int>(status.error_code()), ")");
}

}  // namespace tsc_handoff::tls
