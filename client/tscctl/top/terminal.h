// Terminal: the one place that speaks to ncurses. It takes the terminal over while it lives, and
// gives it back as it was: its modes, what stood on it, the cursor.
//
// Threading: one thread's, one Terminal at a time.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_TERMINAL_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_TERMINAL_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/tscctl/top/key.h"
#include "client/tscctl/top/screen.h"

namespace tsc_handoff::tscctl {

class Terminal {
 public:
  // FAILED_PRECONDITION when TERM names no terminal that can be drawn on.
  static absl::StatusOr<std::unique_ptr<Terminal>> Open(bool color);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  Size size() const;
  // Of the locale's character set.
  const Glyphs& glyphs() const { return glyphs_; }

  void Show(const Screen& screen);
  // The next key that was pressed; nothing when there is none. Never waits; stdin tells by poll()
  // when to ask.
  std::optional<Key> ReadKey();

  // After SIGWINCH.
  void Resize();
  // Draws everything at the next Show(), whatever is thought to be there.
  void Redraw();
  // Stops this process as Ctrl-Z does, with the terminal as it was; comes back when it goes on.
  void Suspend();

 private:
  // Keeps ncurses' macros out of the users' files.
  struct Curses;

  Terminal(std::unique_ptr<Curses> curses, Glyphs glyphs);

  const std::unique_ptr<Curses> curses_;
  const Glyphs glyphs_;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_TERMINAL_H_
