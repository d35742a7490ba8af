#include "server/agent/duration_option.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::agent {

std::string ParseDuration(const std::string& text, int64_t& out_ns, const DurationRange& range) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < range.lowest ||
      duration > range.highest) {
    const bool usual = range.lowest == DurationRange().lowest;
    return absl::StrCat("\"", text, "\" is no duration ",
                        usual ? "above 0 and up to ten years, such as 500us, 1ms or 5m"
                              : absl::StrCat("from ", absl::FormatDuration(range.lowest), " to ",
                                             absl::FormatDuration(range.highest)));
  }
  out_ns = absl::ToInt64Nanoseconds(duration);
  return "";
}

CLI::Option* AddDuration(CLI::App& app, const std::string& flag, int64_t& out_ns,
                         const std::string& help, const DurationRange& range) {
  return app
      .add_option_function<std::string>(
          flag,
          [&out_ns, range](const std::string& text) {
            if (const std::string error = ParseDuration(text, out_ns, range); !error.empty())
              throw CLI::ValidationError(error);
          },
          help)
      ->type_name("DURATION");
}

}  // namespace tsc_handoff::agent
