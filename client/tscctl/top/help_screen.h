// What `?` shows in `tscctl top`. Threading: a pure function.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_HELP_SCREEN_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_HELP_SCREEN_H_

#include "client/tscctl/top/details.h"
#include "client/tscctl/top/screen.h"

namespace tsc_handoff::tscctl {

Details HelpScreen(const Glyphs& glyphs);

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_HELP_SCREEN_H_
