#include "client/tscctl/tscctl.h"

#include <variant>

#include "client/tscctl/commands.h"
#include "client/tscctl/options.h"
#include "client/tscctl/result.h"
#include "client/tscctl/tls_options.h"
#include "server/tls/min_version.h"

namespace tsc_handoff::tscctl {
namespace {

// Before anything is begun. An agent speaks TLS 1.3, whatever older version it permits besides.
Result CheckTlsFiles(const Options& options) {
  if (options.tls.files.empty()) return {};
  const absl::Status usable = CheckTls(options.tls);
  if (absl::IsInvalidArgument(usable)) return UsageFailure(usable.message(), "tscctl --help");
  if (!usable.ok())
    return FileFailure(usable, "Mend what --tls-ca, --tls-cert and --tls-key name.");
  if (absl::Status status = tls::SetMinVersion(tls::MinVersion::kTls13); !status.ok())
    return FileFailure(status, "Look at OpenSSL's configuration of this machine.");
  return {};
}

}  // namespace

int RunTscctl(const std::vector<std::string>& args, std::ostream& out, std::ostream& err,
              const Environment& environment) {
  const auto no_color = environment.variables.find("NO_COLOR");
  // As no-color.org has it: set and not empty.
  const bool color = no_color == environment.variables.end() || no_color->second.empty();
  Io io{.out = out,
        .err = err,
        .out_palette = Palette(color && environment.stdout_is_terminal),
        .err_palette = Palette(color && environment.stderr_is_terminal),
        .json = LooksLikeJson(args),
        .show_progress = false,
        .out_fd = environment.stdout_fd,
        .out_is_terminal = environment.stdout_is_terminal,
        .color = color};

  const std::variant<Options, HelpRequest, UsageError> parsed =
      ParseOptions(args, environment.variables);
  if (const auto* help = std::get_if<HelpRequest>(&parsed)) {
    out << help->text;
    return static_cast<int>(ExitCode::kOk);
  }
  Result result;
  if (const auto* usage = std::get_if<UsageError>(&parsed)) {
    result = usage->in_file
                 ? FileFailure(absl::InvalidArgumentError(usage->message),
                               "Correct the file; `tscctl contexts --example` explains each line.")
                 : UsageFailure(usage->message, usage->help_command);
  } else {
    const Options& options = std::get<Options>(parsed);
    io.json = options.json;
    io.show_progress = environment.stderr_is_terminal && !options.json;
    result = CheckTlsFiles(options);
    if (!result.has_value()) result = RunCommand(options, io);
  }
  out.flush();
  if (!result.has_value() && !out.good()) {
    result = FileFailure(absl::DataLossError("the output could not be written"),
                         "Look at where stdout goes: a full disk or a closed pipe.");
  }
  if (!result.has_value()) return static_cast<int>(ExitCode::kOk);
  PrintFailure(*result, io);
  return static_cast<int>(result->exit_code);
}

}  // namespace tsc_handoff::tscctl
