#include "tests/fuzz/message_mutator.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

// libFuzzer's own way to change bytes; null in an ordinary test.
extern "C" __attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t* data, size_t size,
                                                         size_t max_size);

namespace tsc_handoff::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Random = std::mt19937_64;

constexpr int kMostElements = 64;
constexpr int kDeepest = 8;
constexpr size_t kLongestText = 600;

// protobuf writes a line for each message that is none.
[[maybe_unused]] google::protobuf::LogHandler* const kLoud =
    google::protobuf::SetLogHandler(nullptr);

// A field of a message of the tree; any of its fields, set or not.
struct Place {
  Message* message = nullptr;
  const FieldDescriptor* field = nullptr;
};

void Collect(Message& message, int depth, std::vector<Place>& places) {
  const auto* const descriptor = message.GetDescriptor();
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* const field = descriptor->field(i);
    places.push_back({&message, field});
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || depth == kDeepest) continue;
    if (field->is_repeated()) {
      for (int at = 0; at < reflection.FieldSize(message, field); ++at)
        Collect(*reflection.MutableRepeatedMessage(&message, field, at), depth + 1, places);
    } else if (reflection.HasField(message, field)) {
      Collect(*reflection.MutableMessage(&message, field), depth + 1, places);
    }
  }
}

// Where mistakes are made: at the ends, next to what was there, and anywhere.
uint64_t Number(uint64_t before, Random& random) {
  constexpr uint64_t kSpecial[] = {0,
                                   1,
                                   2,
                                   1000,
                                   4096,
                                   std::numeric_limits<uint32_t>::max(),
                                   uint64_t{1} << 31,
                                   uint64_t{1} << 32,
                                   std::numeric_limits<int64_t>::max(),
                                   uint64_t{1} << 63,
                                   std::numeric_limits<uint64_t>::max()};
  switch (random() % 5) {
    case 0:
      return kSpecial[random() % std::size(kSpecial)];
    case 1:
      return before + random() % 3 - 1;
    case 2:
      return before ^ uint64_t { 1 } << random() % 64;
    case 3:
      return 0 - before;
    default:
      return random() >> random() % 64;
  }
}

// `bytes`: any of the 256; otherwise ASCII, because proto3's strings are UTF-8 or no message.
std::string Text(std::string text, bool bytes, Random& random) {
  const auto character = [&] {
    return static_cast<char>(bytes ? random() % 256 : 0x20 + random() % 0x5f);
  };
  const size_t at = random() % (text.size() + 1);
  switch (random() % 5) {
    case 0:
      text.resize(at);
      break;
    case 1:
      text.insert(at, 1 + random() % 4, character());
      break;
    case 2:
      if (at < text.size()) text[at] = character();
      break;
    case 3:
      text.erase(at, 1 + random() % 8);
      break;
    default:
      // Across every limit that a text has.
      text.append(random() % kLongestText, character());
  }
  text.resize(std::min(text.size(), 2 * kLongestText));
  // No half characters.
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0; });
  return bytes || ascii ? text : "";
}

void SetOne(Message& message, const FieldDescriptor& field, Random& random) {
  const Reflection& r = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.SetInt32(
          &message, &field,
          static_cast<int32_t>(Number(static_cast<uint64_t>(r.GetInt32(message, &field)), random)));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetInt64(
          &message, &field,
          static_cast<int64_t>(Number(static_cast<uint64_t>(r.GetInt64(message, &field)), random)));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.SetUInt32(&message, &field,
                         static_cast<uint32_t>(Number(r.GetUInt32(message, &field), random)));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.SetUInt64(&message, &field, Number(r.GetUInt64(message, &field), random));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.SetEnumValue(&message, &field, static_cast<int>(random() % 12) - 1);
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.SetBool(&message, &field, !r.GetBool(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.SetDouble(&message, &field, static_cast<double>(Number(0, random)) / 3);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.SetFloat(&message, &field, static_cast<float>(Number(0, random)) / 3);
    case FieldDescriptor::CPPTYPE_STRING:
      return r.SetString(
          &message, &field,
          Text(r.GetString(message, &field), field.type() == FieldDescriptor::TYPE_BYTES, random));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      (void)r.MutableMessage(&message, &field);
  }
}

void AddOne(Message& message, const FieldDescriptor& field, Random& random) {
  const Reflection& r = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.AddInt32(&message, &field, static_cast<int32_t>(Number(0, random)));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.AddInt64(&message, &field, static_cast<int64_t>(Number(0, random)));
    case FieldDescriptor::CPPTYPE_UINT32:
      return r.AddUInt32(&message, &field, static_cast<uint32_t>(Number(0, random)));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.AddUInt64(&message, &field, Number(0, random));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.AddEnumValue(&message, &field, static_cast<int>(random() % 12) - 1);
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.AddBool(&message, &field, random() % 2 == 0);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.AddDouble(&message, &field, static_cast<double>(Number(0, random)));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return r.AddFloat(&message, &field, static_cast<float>(Number(0, random)));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.AddString(&message, &field,
                         Text("", field.type() == FieldDescriptor::TYPE_BYTES, random));
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const int size = r.FieldSize(message, &field);
      Message* const added = r.AddMessage(&message, &field);
      // One that is there twice is a mistake of its own.
      if (size > 0 && random() % 2 == 0)
        added->CopyFrom(r.GetRepeatedMessage(
            message, &field, static_cast<int>(random() % static_cast<uint64_t>(size))));
    }
  }
}

void ChangeRepeated(Message& message, const FieldDescriptor& field, Random& random) {
  const Reflection& r = *message.GetReflection();
  const int size = r.FieldSize(message, &field);
  const auto any = [&] { return static_cast<int>(random() % static_cast<uint64_t>(size)); };
  const uint64_t how = random() % 4;
  if (size == 0 || (how < 2 && size < kMostElements)) {
    AddOne(message, field, random);
  } else if (how == 2) {
    r.SwapElements(&message, &field, any(), any());
  } else {
    r.SwapElements(&message, &field, any(), size - 1);
    r.RemoveLast(&message, &field);
  }
}

}  // namespace

void MutateMessage(Message& message, Random& random) {
  std::vector<Place> places;
  Collect(message, 0, places);
  if (places.empty()) return;
  const Place place = places[random() % places.size()];
  if (place.field->is_repeated()) {
    ChangeRepeated(*place.message, *place.field, random);
  } else if (random() % 8 == 0) {
    place.message->GetReflection()->ClearField(place.message, place.field);
  } else {
    SetOne(*place.message, *place.field, random);
  }
}

}  // namespace tsc_handoff::fuzz

// libFuzzer's: changes an input in its place, and returns its new size.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  using namespace tsc_handoff::fuzz;  // NOLINT: a function of libFuzzer's
  std::mt19937_64 random(seed);
  const auto bytes = [&] {
    return LLVMFuzzerMutate != nullptr ? LLVMFuzzerMutate(data, size, max_size) : size;
  };
  if (size == 0 || random() % 8 == 0) return bytes();
  const auto message = MessageOf(data[0]);
  if (message == nullptr || !message->ParsePartialFromArray(data + 1, static_cast<int>(size - 1)))
    return bytes();
  for (uint64_t times = 1 + random() % 4; times > 0; --times) MutateMessage(*message, random);
  const std::string out = message->SerializePartialAsString();
  if (out.size() + 1 > max_size) return bytes();
  std::memcpy(data + 1, out.data(), out.size());
  return out.size() + 1;
}
