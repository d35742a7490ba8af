#include "server/base/on_behalf_of.h"

#include <utility>

namespace tsc_handoff {
namespace {

std::string& OfThisThread() {
  thread_local std::string whom = "the agent itself";
  return whom;
}

}  // namespace

OnBehalfOf::OnBehalfOf(std::string whom)
    : before_(std::exchange(OfThisThread(), std::move(whom))) {}

OnBehalfOf::~OnBehalfOf() { OfThisThread() = std::move(before_); }

const std::string& OnBehalfOf::Current() { return OfThisThread(); }

}  // namespace tsc_handoff
