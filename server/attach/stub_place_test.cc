#include "server/attach/stub_place.h"

#include <cstring>
#include <map>

#include "gtest/gtest.h"

namespace tsc_handoff::attach {
namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kStub = 601;

// Pages of a made-up process; those that are not there cannot be read.
struct Memory {
  std::map<uint64_t, std::string> pages;
  // A page with code up to `code`, and zeros behind it.
  Memory& Page(uint64_t address, size_t code) {
    pages[address] = std::string(code, 'c') + std::string(kPage - code, '\0');
    return *this;
  }
  MemoryReader Reader() const {
    return [this](uint64_t address, unsigned char* to, size_t bytes) {
      auto page = pages.find(address / kPage * kPage);
      if (page == pages.end() || address % kPage + bytes > kPage) return false;
      memcpy(to, page->second.data() + address % kPage, bytes);
      return true;
    };
  }
};

Mapping Code(uint64_t start, uint64_t pages, const char* name) {
  return {.start = start,
          .end = start + pages * kPage,
          .readable = true,
          .executable = true,
          .shared = false,
          .name = name};
}

TEST(StubPlace, IsTheEndOfTheVdso) {
  const Memory memory = Memory().Page(0x10000, 100).Page(0x21000, 2600);
  const auto place = FindStubPlace({Code(0x10000, 1, "/bin/x"), Code(0x20000, 2, "[vdso]")}, kStub,
                                   memory.Reader());
  EXPECT_EQ(place, 0x22000 - 608);
}

TEST(StubPlace, IsAnotherWhenTheVdsoIsFullOrUsed) {
  const Memory memory = Memory().Page(0x10000, 4096).Page(0x12000, 100).Page(0x21000, 3800);
  const auto place = FindStubPlace(
      {Code(0x10000, 1, "/bin/x"), Code(0x12000, 1, "/lib/y.so"), Code(0x20000, 2, "[vdso]")},
      kStub, memory.Reader());
  EXPECT_EQ(place, 0x13000 - 608);
}

TEST(StubPlace, LeavesAMargin) {
  const size_t room = 608 + 64;
  const Memory fits = Memory().Page(0x10000, kPage - room);
  const Memory tight = Memory().Page(0x10000, kPage - room + 1);
  EXPECT_TRUE(FindStubPlace({Code(0x10000, 1, "[vdso]")}, kStub, fits.Reader()));
  EXPECT_FALSE(FindStubPlace({Code(0x10000, 1, "[vdso]")}, kStub, tight.Reader()));
}

TEST(StubPlace, IsNowhereElse) {
  const Memory memory = Memory().Page(0x10000, 0);
  Mapping data = Code(0x10000, 1, "/bin/x");
  data.executable = false;
  Mapping shared = Code(0x10000, 1, "/bin/x");
  shared.shared = true;
  Mapping unreadable = Code(0x10000, 1, "[vsyscall]");
  unreadable.readable = false;
  for (const Mapping& mapping :
       {data, shared, unreadable, Code(0x10000, 1, ""), Code(0x40000, 1, "/gone")}) {
    EXPECT_FALSE(FindStubPlace({mapping}, kStub, memory.Reader())) << mapping.name;
  }
  EXPECT_FALSE(FindStubPlace({}, kStub, memory.Reader()));
}

}  // namespace
}  // namespace tsc_handoff::attach
