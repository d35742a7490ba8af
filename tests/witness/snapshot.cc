#include "tests/witness/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/witness/record.h"

namespace tsc_handoff::witness {
namespace {

constexpr char kMagic[8] = {'T', 'S', 'C', 'W', 'I', 'T', 'N', 'S'};

// Limits of what a file may make us allocate.
constexpr uint32_t kMostMsrs = 16;
constexpr uint32_t kLongestVmId = 128;
constexpr uint64_t kLargestBody = 16u << 20;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t body_crc32;  // of the uncompressed body
  uint64_t body_bytes;  // uncompressed
  uint64_t packed_bytes;
};
static_assert(sizeof(Header) == 32);

template <typename T>
void Put(std::string* out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Takes values from the front of the body; after the first that is not there, everything fails.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  bool Take(T* value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::string_view raw;
    if (!TakeBytes(sizeof(T), &raw)) return false;
    std::memcpy(value, raw.data(), sizeof(T));
    return true;
  }

  bool TakeBytes(size_t size, std::string_view* out) {
    if (bytes_.size() < size) return false;
    *out = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return true;
  }

  bool AtEnd() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

uint32_t Crc32(std::string_view bytes) {
  return static_cast<uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
}

bool TakeVcpu(Reader* reader, VcpuSnapshot* vcpu) {
  uint32_t msr_count = 0;
  if (!reader->Take(&vcpu->id) || !reader->Take(&vcpu->regs) || !reader->Take(&vcpu->sregs) ||
      !reader->Take(&vcpu->mp_state) || !reader->Take(&vcpu->events) ||
      !reader->Take(&vcpu->lapic) || !reader->Take(&msr_count) || msr_count > kMostMsrs) {
    return false;
  }
  vcpu->msrs.resize(msr_count);
  for (kvm_msr_entry& msr : vcpu->msrs) {
    if (!reader->Take(&msr)) return false;
  }
  return true;
}

bool TakeBody(std::string_view body, Snapshot* snapshot) {
  Reader reader(body);
  uint32_t irqchip = 0, name_size = 0, vcpu_count = 0;
  std::string_view name, memory;
  if (!reader.Take(&snapshot->record_version) || !reader.Take(&irqchip) || irqchip > 1 ||
      !reader.Take(&name_size) || name_size > kLongestVmId || !reader.TakeBytes(name_size, &name) ||
      !reader.Take(&vcpu_count) || vcpu_count == 0 || vcpu_count > WITNESS_MAX_VCPUS) {
    return false;
  }
  snapshot->irqchip = irqchip == 1;
  snapshot->vm_id = std::string(name);
  snapshot->vcpus.resize(vcpu_count);
  for (VcpuSnapshot& vcpu : snapshot->vcpus) {
    if (!TakeVcpu(&reader, &vcpu)) return false;
  }
  if (!reader.TakeBytes(WITNESS_MEMORY_SIZE, &memory) || !reader.AtEnd()) return false;
  snapshot->memory = std::string(memory);
  return true;
}

absl::Status Damaged(const char* what) {
  return absl::DataLossError(absl::StrCat("the saved VM is damaged: ", what, "; save it again"));
}

}  // namespace

std::string EncodeSnapshot(const Snapshot& snapshot) {
  std::string body;
  Put(&body, snapshot.record_version);
  Put(&body, uint32_t{snapshot.irqchip});
  Put(&body, static_cast<uint32_t>(snapshot.vm_id.size()));
  body += snapshot.vm_id;
  Put(&body, static_cast<uint32_t>(snapshot.vcpus.size()));
  for (const VcpuSnapshot& vcpu : snapshot.vcpus) {
    Put(&body, vcpu.id);
    Put(&body, vcpu.regs);
    Put(&body, vcpu.sregs);
    Put(&body, vcpu.mp_state);
    Put(&body, vcpu.events);
    Put(&body, vcpu.lapic);
    Put(&body, static_cast<uint32_t>(vcpu.msrs.size()));
    for (const kvm_msr_entry& msr : vcpu.msrs) Put(&body, msr);
  }
  body += snapshot.memory;

  uLongf packed_size = compressBound(body.size());
  std::string packed(packed_size, '\0');
  // Fails only for want of memory or room, and there is room.
  compress2(reinterpret_cast<Bytef*>(packed.data()), &packed_size,
            reinterpret_cast<const Bytef*>(body.data()), body.size(), Z_BEST_SPEED);
  packed.resize(packed_size);

  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kSnapshotVersion;
  header.body_crc32 = Crc32(body);
  header.body_bytes = body.size();
  header.packed_bytes = packed.size();
  std::string out;
  Put(&out, header);
  return out + packed;
}

absl::StatusOr<Snapshot> DecodeSnapshot(std::string_view bytes) {
  Header header;
  Reader reader(bytes);
  if (!reader.Take(&header)) return Damaged("it is shorter than its header");
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    return absl::DataLossError("this is not a file that the witness saved");
  }
  if (header.version != kSnapshotVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the saved VM has version ", header.version,
                                                      ", this witness reads ", kSnapshotVersion,
                                                      ": use the same build on both sides"));
  }
  std::string_view packed;
  if (!reader.TakeBytes(header.packed_bytes, &packed)) return Damaged("it is truncated");
  if (!reader.AtEnd()) return Damaged("something follows its end");
  if (header.body_bytes > kLargestBody) return Damaged("its length makes no sense");

  std::string body(header.body_bytes, '\0');
  uLongf body_size = body.size();
  if (uncompress(reinterpret_cast<Bytef*>(body.data()), &body_size,
                 reinterpret_cast<const Bytef*>(packed.data()), packed.size()) != Z_OK ||
      body_size != body.size()) {
    return Damaged("it does not decompress");
  }
  if (Crc32(body) != header.body_crc32) return Damaged("its checksum is wrong");
  Snapshot snapshot;
  if (!TakeBody(body, &snapshot)) return Damaged("its contents make no sense");
  if (snapshot.record_version != WITNESS_RECORD_VERSION) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the saved guest keeps record version ", snapshot.record_version, ", this witness ",
        WITNESS_RECORD_VERSION, ": use the same build on both sides"));
  }
  return snapshot;
}

absl::Status WriteFile(const std::string& path, std::string_view bytes) {
  const std::string part = path + ".part";
  std::FILE* file = std::fopen(part.c_str(), "wbe");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot create ", part));
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  const int write_error = errno;
  if (std::fclose(file) != 0 || !written) {
    const int error = written ? errno : write_error;
    unlink(part.c_str());
    return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", part));
  }
  if (std::rename(part.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", part, " to ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  std::string bytes;
  char buffer[65536];
  while (bytes.size() <= 2 * kLargestBody) {
    const size_t got = std::fread(buffer, 1, sizeof buffer, file);
    if (got == 0) break;
    bytes.append(buffer, got);
  }
  const bool failed = std::ferror(file) != 0;
  const int error = errno;
  std::fclose(file);
  if (failed) return absl::ErrnoToStatus(error, absl::StrCat("cannot read ", path));
  if (bytes.size() > 2 * kLargestBody)
    return absl::DataLossError(absl::StrCat(path, " is too large for a saved VM"));
  return bytes;
}

}  // namespace tsc_handoff::witness
