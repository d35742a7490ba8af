#include "server/agent/grpc_log.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/base/log.h"

namespace tsc_handoff::agent {
namespace {

void WriteLine(gpr_log_func_args* line) {
  absl::string_view text = line->message;
  if (absl::ConsumePrefix(&text, "Handshake failed with fatal error ")) {
    LogLimited(LogLevel::kWarn, "a TLS handshake failed", {{"why", text}});
    return;
  }
  const LogLevel level = line->severity == GPR_LOG_SEVERITY_ERROR  ? LogLevel::kWarn
                         : line->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                                   : LogLevel::kDebug;
  LogLimited(level, "gRPC", {{"what", text}});
}

// A state or request that cannot be parsed is a line, of which its sender has no limit.
void WriteProtobufLine(google::protobuf::LogLevel level, const char* /*file*/, int /*line*/,
                       const std::string& message) {
  const bool is_error = level >= google::protobuf::LOGLEVEL_ERROR;
  LogLimited(is_error ? LogLevel::kWarn : LogLevel::kDebug, "protobuf", {{"what", message}});
}

}  // namespace

void TakeOverGrpcLog() {
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function(WriteLine);
  google::protobuf::SetLogHandler(WriteProtobufLine);
}

}  // namespace tsc_handoff::agent
