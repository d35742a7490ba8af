// The commands and options that tscctl has, each with its help, as CLI11 is told.
//
// Threading: functions without shared state.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_DECLARE_OPTIONS_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_DECLARE_OPTIONS_H_

#include "client/tscctl/option_words.h"
#include "client/tscctl/options.h"

namespace CLI {
class App;
}

namespace tsc_handoff::tscctl {

// What is parsed by `app` from then on goes to `options` and `words`, which must outlive it.
void DeclareOptions(CLI::App* app, Options* options, OptionWords* words);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_DECLARE_OPTIONS_H_
