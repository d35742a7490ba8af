#include "server/config/yaml_file.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "absl/strings/str_cat.h"

namespace tsc_handoff::config {
namespace {

// Only looks where the content of documents begins.
class DocumentStarts final : public YAML::EventHandler {
 public:
  const YAML::Mark& last() const { return last_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    last_ = mark;
    is_empty_ = true;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { Note(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override { Note(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {
    Note(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/,
                       YAML::anchor_t /*anchor*/, YAML::EmitterStyle::value /*style*/) override {
    Note(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {
    Note(mark);
  }
  void OnMapEnd() override {}

 private:
  void Note(const YAML::Mark& mark) {
    if (is_empty_ && !mark.is_null()) last_ = mark;
    is_empty_ = false;
  }

  YAML::Mark last_;
  bool is_empty_ = true;
};

// Where a second document begins; a null mark when there is none. YAML::LoadAll would tell, too,
// but for a text such as ",", of which yaml-cpp 0.7 makes documents without end.
YAML::Mark SecondDocument(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStarts starts;
  const bool two = parser.HandleNextDocument(starts) && parser.HandleNextDocument(starts);
  return two ? starts.last() : YAML::Mark::null_mark();
}

}  // namespace

std::string AtLine(const std::string& name, const YAML::Mark& mark, const std::string& what) {
  // yaml-cpp counts from 0, and has no place for an empty document.
  return mark.is_null() ? absl::StrCat(name, ": ", what)
                        : absl::StrCat(name, ":", mark.line + 1, ": ", what);
}

std::optional<YAML::Node> ParseYamlMap(const std::string& text, const std::string& name,
                                       std::string& problem) {
  try {
    const YAML::Mark second = SecondDocument(text);
    YAML::Node document = second.is_null() ? YAML::Load(text) : YAML::Node();
    if (!second.is_null()) {
      problem = AtLine(name, second, "a second document, or what belongs to none");
    } else if (document.IsNull()) {
      return YAML::Node(YAML::NodeType::Map);
    } else if (!document.IsMap()) {
      problem = AtLine(name, document.Mark(), "lines of KEY: VALUE were expected");
    } else {
      return document;
    }
  } catch (const YAML::Exception& error) {
    problem = AtLine(name, error.mark, absl::StrCat("this is no YAML: ", error.msg));
  }
  return std::nullopt;
}

}  // namespace tsc_handoff::config
