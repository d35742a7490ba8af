// A key as `tscctl top` knows it. Values.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_KEY_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_KEY_H_

namespace tsc_handoff::tscctl {

struct Key {
  enum class Code {
    // `character`, printable ASCII.
    kCharacter,
    kUp,
    kDown,
    kPageUp,
    kPageDown,
    kHome,
    kEnd,
    kTab,
    kBackTab,
    kEnter,
    kEscape,
    kBackspace,
    // Ctrl-U: the whole of what was typed.
    kEraseLine,
    kHelp,
    // Ctrl-L.
    kRedraw,
    // Anything else.
    kOther,
  };
  Code code = Code::kOther;
  char character = '\0';
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_KEY_H_
