// TlsServer: a gRPC server with the credentials under test, which answers GetHostInfo with the
// names of its caller, and clients of it.
//
// Threading: its callers' names come from gRPC's threads.
#ifndef TSC_HANDOFF_SERVER_TLS_TESTING_TLS_SERVER_H_
#define TSC_HANDOFF_SERVER_TLS_TESTING_TLS_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "server/tls/certificate_store.h"
#include "server/tls/testing/test_authority.h"
#include "server/tls/testing/test_directory.h"
#include "tschandoff/v1/tsc_agent.grpc.pb.h"

namespace tsc_handoff::tls {

// A store of these texts, and their files.
class TestStore {
 public:
  explicit TestStore(const PemTexts& texts);
  // Puts others in place, which come into use.
  void Swap(const PemTexts& texts);
  const CertificateStore& store() const { return store_; }

 private:
  TestDirectory directory_;
  CertificateStore store_{directory_.files(), RealNowS, [](const CertificateStore::Reloaded&) {}};
};

class TlsServer {
 public:
  // Listens at so many ports of 127.0.0.1. `store` outlives this.
  explicit TlsServer(const CertificateStore& store, int ports = 1);
  ~TlsServer();

  int port(int number = 0) const { return ports_.at(static_cast<size_t>(number)); }
  std::string address(int number = 0) const { return "127.0.0.1:" + std::to_string(port(number)); }

 private:
  class Service final : public tschandoff::v1::TscAgent::Service {
    grpc::Status GetHostInfo(grpc::ServerContext* context,
                             const tschandoff::v1::GetHostInfoRequest* request,
                             tschandoff::v1::GetHostInfoResponse* response) override;
  };

  Service service_;
  std::vector<std::shared_ptr<grpc::ServerCredentials>> credentials_;
  std::vector<int> ports_;
  std::unique_ptr<grpc::Server> server_;
};

// One connection.
class TlsCaller {
 public:
  TlsCaller(const std::string& address,
            const std::shared_ptr<grpc::ChannelCredentials>& credentials,
            const std::string& server_name = "");

  // The caller's names as the server sees them, separated by spaces; "(CODE)" for an error.
  std::string Ask();

 private:
  std::unique_ptr<tschandoff::v1::TscAgent::Stub> stub_;
};

}  // namespace tsc_handoff::tls

#endif  // TSC_HANDOFF_SERVER_TLS_TESTING_TLS_SERVER_H_
