#include "client/tscctl/json_text.h"

#include <nlohmann/json.hpp>

namespace tsc_handoff::tscctl {

std::string DumpJson(const nlohmann::ordered_json& value) {
  return value.dump(/*indent=*/2, ' ', /*ensure_ascii=*/false,
                    nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace tsc_handoff::tscctl
