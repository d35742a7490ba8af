// tls_bench: what mutual TLS adds to a call, and what a connection with it takes. Calls the same
// agent over its Unix socket and over TCP with TLS, in turn. See tests/bench/tls.py.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "server/tls/channel_credentials.h"
#include "server/tls/min_version.h"
#include "tests/bench/agent_stub.h"
#include "tests/bench/rounds.h"

namespace tsc_handoff::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string unix_address;
  std::string tls_address;
  tls::TlsFiles files;
  RoundLimits limits;
};

absl::StatusOr<Json> Measure(const Options& options) {
  if (absl::Status status = tls::SetMinVersion(tls::MinVersion::kTls13); !status.ok())
    return status;
  const auto pem = tls::ReadTlsFiles(options.files);
  if (!pem.ok()) return pem.status();
  AgentStub plain(options.unix_address, "");
  AgentStub secure(options.tls_address, "", tls::MakeChannelCredentials(*pem));
  for (AgentStub* const stub : {&plain, &secure})
    if (absl::Status status = stub->Connect(); !status.ok()) return status;
  Rounds rounds;
  rounds.AddKind("unix", [&] { return plain.Empty(); });
  rounds.AddKind("tls", [&] { return secure.Empty(); });
  // Credentials of its own: gRPC shares a connection between channels that have the same.
  std::unique_ptr<AgentStub> fresh;
  constexpr int kConnectEvery = 10;
  rounds.AddKind(
      "tls_connect", [&] { return fresh->Connect(); },
      [&] {
        fresh =
            std::make_unique<AgentStub>(options.tls_address, "", tls::MakeChannelCredentials(*pem));
        return absl::OkStatus();
      },
      kConnectEvery);
  if (absl::Status status = rounds.Run(options.limits); !status.ok()) return status;
  Json report;
  report["rounds"] = rounds.rounds();
  for (const auto& [name, samples] : rounds.all()) report[name] = samples.ToJson();
  return report;
}

}  // namespace
}  // namespace tsc_handoff::bench

int main(int argc, char** argv) {
  tsc_handoff::bench::Options options;
  double seconds = 10;
  CLI::App app("What mutual TLS adds to an empty RPC. One JSON object on stdout; times in ns.",
               "tls_bench");
  app.add_option("--unix", options.unix_address, "The agent's Unix socket, unix:/PATH")->required();
  app.add_option("--tls", options.tls_address, "The same agent's HOST:PORT")->required();
  app.add_option("--tls-ca", options.files.ca, "Authorities")->required();
  app.add_option("--tls-cert", options.files.cert, "The caller's certificate")->required();
  app.add_option("--tls-key", options.files.key, "Its key")->required();
  app.add_option("--max-rounds", options.limits.max_rounds, "Rounds at most [1000]")
      ->check(CLI::Range(30, 1'000'000));
  app.add_option("--seconds", seconds, "Time after which no further round begins [10]")
      ->check(CLI::Range(0.1, 3600.0));
  CLI11_PARSE(app, argc, argv);
  options.limits.time = absl::Seconds(seconds);
  const auto report = tsc_handoff::bench::Measure(options);
  if (!report.ok()) {
    std::fprintf(stderr, "tls_bench: %s\n", std::string(report.status().message()).c_str());
    return 1;
  }
  std::cout << report->dump() << std::endl;
  return 0;
}
