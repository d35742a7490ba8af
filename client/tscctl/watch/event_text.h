// An event as a line: for people and grep, or as JSON.
//
// Threading: pure functions.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_WATCH_EVENT_TEXT_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_WATCH_EVENT_TEXT_H_

#include <string>

#include "client/tscctl/format.h"
#include "client/tscctl/watch/events.h"

namespace tsc_handoff::tscctl {

// "TIME AGENT EVENT key=value ...", without the line's end. Values with spaces stand in quotes.
std::string EventAsText(const Event& event, const Palette& palette);

// One JSON object on one line, without the line's end.
std::string EventAsJson(const Event& event);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_WATCH_EVENT_TEXT_H_
