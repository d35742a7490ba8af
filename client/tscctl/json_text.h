// How a JSON value becomes text.
//
// Threading: a pure function.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_JSON_TEXT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_JSON_TEXT_H_

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tsc_handoff::tscctl {

// Indented; bytes that are no UTF-8 are replaced, for JSON has no others.
std::string DumpJson(const nlohmann::ordered_json& value);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_JSON_TEXT_H_
