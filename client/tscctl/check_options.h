// What CLI11 does not check of a command line: ids, addresses, durations, and what excludes what.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_CHECK_OPTIONS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_CHECK_OPTIONS_H_

#include <string>

#include "client/tscctl/option_words.h"
#include "client/tscctl/options.h"

namespace tsc_handoff::tscctl {

// Completes `options`, which CLI11 has filled, from the words. Returns what is wrong in one line,
// empty when all is well.
std::string CheckOptions(const OptionWords& words, Options* options);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_CHECK_OPTIONS_H_
