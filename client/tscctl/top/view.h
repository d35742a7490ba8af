// View: what a person sees of a Snapshot, and what keys do to it. No terminal, no time of its own.
//
// Threading: one thread's.
#ifndef TSC_HANDOFF_CLIENT_TSCCTL_TOP_VIEW_H_
#define TSC_HANDOFF_CLIENT_TSCCTL_TOP_VIEW_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>

#include "client/tscctl/top/details.h"
#include "client/tscctl/top/key.h"
#include "client/tscctl/top/layout.h"
#include "client/tscctl/top/screen.h"
#include "client/tscctl/top/snapshot.h"
#include "client/tscctl/top/table.h"

namespace tsc_handoff::tscctl {

class View {
 public:
  // While paused this changes nothing, but the first time.
  void SetSnapshot(Snapshot snapshot, const Moment& now);
  void Handle(const Key& key);
  // Also brings the selection and the scrolling in line with what fits.
  Screen Draw(const Size& size, const Glyphs& glyphs);

  // A key asked for the end.
  bool quit() const { return quit_; }
  bool paused() const { return paused_; }

 private:
  static constexpr size_t kPanes = 3;
  enum class Mode { kTables, kFilter, kDetails, kHelp };

  struct PaneState {
    Sort sort = {};
    std::string filter = {};
    std::optional<RowId> selected = std::nullopt;
    // Where the selected row was; its neighbour is selected when it goes.
    size_t selected_index = 0;
    size_t first = 0;
    TopTable table = {};
    size_t unfiltered_rows = 0;
  };

  void HandleInTables(const Key& key);
  void HandleCharacter(char character);
  void HandleFilter(const Key& key);
  void HandleText(const Key& key);
  void MoveSelection(const Key& key);
  void NextSort(bool forward);
  // Makes the tables anew, and finds the selected rows in them.
  void MakeTables();
  void FindSelected(PaneState* pane);
  Pane PaneOf(size_t index) const;
  Details CurrentDetails() const;
  void DrawTables(const Size& size, const Glyphs& glyphs, Screen* screen);
  Line StatusLine(size_t width, const Glyphs& glyphs) const;
  Line FootLine(size_t width, const Glyphs& glyphs, Screen* screen) const;

  PaneState& active_pane() { return panes_[active_]; }

  Snapshot snapshot_;
  Moment now_;
  std::array<PaneState, kPanes> panes_;
  size_t active_ = 2;  // VMs: most of what is to be seen
  Mode mode_ = Mode::kTables;
  // Of details and help.
  size_t text_first_ = 0;
  // What details are of.
  RowId details_of_;
  std::string filter_before_;
  // Lines of a page, as drawn last.
  size_t page_ = 10;
  bool quit_ = false;
  bool paused_ = false;
  bool has_snapshot_ = false;
};

}  // namespace tsc_handoff::tscctl

#endif  // TSC_HANDOFF_CLIENT_TSCCTL_TOP_VIEW_H_
