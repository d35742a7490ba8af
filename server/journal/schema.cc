#include "server/journal/schema.h"

#include <zlib.h>

#include <functional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tsc_handoff::journal {
namespace {

// "TSCJ": in the file's header, so that `file` and we know a journal from another database.
constexpr int kApplicationId = 0x5453434a;

const Migration& Version1() {
  static const Migration* const statements = new Migration{
      "CREATE TABLE agent (agent_id BLOB NOT NULL, crc32 INTEGER NOT NULL)",
      // ordinal: the order in which they were begun. Each page that a change touches is written to
      // the disk, hence no index but the one that finds the record.
      "CREATE TABLE handoffs ("
      " ordinal INTEGER PRIMARY KEY,"
      " handoff_id TEXT NOT NULL, side INTEGER NOT NULL, state INTEGER NOT NULL,"
      " vm_id TEXT NOT NULL, epoch INTEGER NOT NULL,"
      " source_agent_id BLOB NOT NULL, destination_agent_id BLOB NOT NULL,"
      " destination_vm_id TEXT NOT NULL, release_digest BLOB NOT NULL, abort_digest BLOB NOT NULL,"
      " release_proof BLOB NOT NULL, abort_proof BLOB NOT NULL, vmm_instance BLOB NOT NULL,"
      " request_digest BLOB NOT NULL, answer BLOB NOT NULL, undo BLOB NOT NULL, redo BLOB NOT NULL,"
      " restored INTEGER NOT NULL, begun_at_ns INTEGER NOT NULL, changed_at_ns INTEGER NOT NULL,"
      " crc32 INTEGER NOT NULL,"
      " UNIQUE (handoff_id, side))",
      "CREATE TABLE vms ("
      " vm_id TEXT PRIMARY KEY NOT NULL, highest_epoch INTEGER NOT NULL, standing INTEGER NOT NULL,"
      " handoff_id TEXT NOT NULL, vmm_instance BLOB NOT NULL, crc32 INTEGER NOT NULL)"
      " WITHOUT ROWID",
  };
  return *statements;
}

// Whose VMM had the VM. A row of before says -1, which its checksum does not take in.
const Migration& Version2() {
  static const Migration* const statements =
      new Migration{"ALTER TABLE vms ADD COLUMN owner_uid INTEGER NOT NULL DEFAULT -1"};
  return *statements;
}

constexpr char kReadHandoffs[] =
    "SELECT handoff_id, side, state, vm_id, epoch, source_agent_id, destination_agent_id,"
    " destination_vm_id, release_digest, abort_digest, release_proof, abort_proof, vmm_instance,"
    " request_digest, answer, undo, redo, restored, begun_at_ns, changed_at_ns, crc32"
    " FROM handoffs ORDER BY ordinal";
constexpr char kReadVms[] =
    "SELECT vm_id, highest_epoch, standing, handoff_id, vmm_instance, crc32, owner_uid FROM vms"
    " ORDER BY vm_id";
// On a conflict the row keeps its ordinal.
constexpr char kPutHandoff[] =
    "INSERT INTO handoffs (handoff_id, side, state, vm_id, epoch, source_agent_id,"
    " destination_agent_id, destination_vm_id, release_digest, abort_digest, release_proof,"
    " abort_proof, vmm_instance, request_digest, answer, undo, redo, restored, begun_at_ns,"
    " changed_at_ns, crc32)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,"
    " ?19, ?20, ?21)"
    " ON CONFLICT (handoff_id, side) DO UPDATE SET state = excluded.state, vm_id = excluded.vm_id,"
    " epoch = excluded.epoch, source_agent_id = excluded.source_agent_id,"
    " destination_agent_id = excluded.destination_agent_id,"
    " destination_vm_id = excluded.destination_vm_id, release_digest = excluded.release_digest,"
    " abort_digest = excluded.abort_digest, release_proof = excluded.release_proof,"
    " abort_proof = excluded.abort_proof, vmm_instance = excluded.vmm_instance,"
    " request_digest = excluded.request_digest, answer = excluded.answer, undo = excluded.undo,"
    " redo = excluded.redo, restored = excluded.restored, begun_at_ns = excluded.begun_at_ns,"
    " changed_at_ns = excluded.changed_at_ns, crc32 = excluded.crc32";
constexpr char kPutVm[] =
    "INSERT INTO vms (vm_id, highest_epoch, standing, handoff_id, vmm_instance, crc32, owner_uid)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
    " ON CONFLICT (vm_id) DO UPDATE SET highest_epoch = excluded.highest_epoch,"
    " standing = excluded.standing, handoff_id = excluded.handoff_id,"
    " vmm_instance = excluded.vmm_instance, crc32 = excluded.crc32,"
    " owner_uid = excluded.owner_uid";
// The numbers are those of Side and State. See Journal::Compact for the rule.
constexpr char kDropEnded[] =
    "DELETE FROM handoffs WHERE changed_at_ns < ?1 AND ("
    " (side = 2 AND (state = 7 OR (state = 3 AND restored = 1)))"
    " OR (side = 1 AND state IN (2, 3) AND EXISTS ("
    "  SELECT 1 FROM vms WHERE vms.vm_id = handoffs.vm_id"
    "  AND vms.highest_epoch > handoffs.epoch)))"
    " RETURNING handoff_id, side";

// CRC-32 of values one after the other, each with its length, so that none can borrow from the
// next.
class Checksum {
 public:
  Checksum& Add(int64_t value) { return AddRaw(&value, sizeof(value)); }
  Checksum& Add(const std::string& value) {
    Add(static_cast<int64_t>(value.size()));
    return AddRaw(value.data(), value.size());
  }
  int64_t value() const { return static_cast<int64_t>(crc_); }

 private:
  Checksum& AddRaw(const void* bytes, size_t size) {
    if (size > 0) crc_ = crc32_z(crc_, static_cast<const unsigned char*>(bytes), size);
    return *this;
  }

  uLong crc_ = crc32_z(0, nullptr, 0);
};

int64_t ChecksumOf(const HandoffRecord& record) {
  return Checksum()
      .Add(record.ticket.handoff_id)
      .Add(static_cast<int64_t>(record.side))
      .Add(static_cast<int64_t>(record.state))
      .Add(record.vm_id)
      .Add(static_cast<int64_t>(record.ticket.epoch))
      .Add(record.ticket.source_agent_id)
      .Add(record.ticket.destination_agent_id)
      .Add(record.ticket.destination_vm_id)
      .Add(record.ticket.release_digest)
      .Add(record.ticket.abort_digest)
      .Add(record.release_proof)
      .Add(record.abort_proof)
      .Add(record.vmm_instance)
      .Add(record.request_digest)
      .Add(record.answer)
      .Add(record.undo)
      .Add(record.redo)
      .Add(record.restored ? 1 : 0)
      .Add(record.begun_at_ns)
      .Add(record.changed_at_ns)
      .value();
}

int64_t ChecksumOf(const VmRecord& record) {
  Checksum checksum;
  checksum.Add(record.vm_id)
      .Add(static_cast<int64_t>(record.highest_epoch))
      .Add(static_cast<int64_t>(record.standing))
      .Add(record.handoff_id)
      .Add(record.vmm_instance);
  if (record.owner_uid >= 0) checksum.Add(record.owner_uid);
  return checksum.value();
}

HandoffRecord HandoffFrom(const Statement& row) {
  HandoffRecord record;
  record.ticket.handoff_id = row.Bytes(0);
  record.side = static_cast<Side>(row.Int(1));
  record.state = static_cast<State>(row.Int(2));
  record.vm_id = row.Bytes(3);
  record.ticket.epoch = static_cast<uint64_t>(row.Int(4));
  record.ticket.source_agent_id = row.Bytes(5);
  record.ticket.destination_agent_id = row.Bytes(6);
  record.ticket.destination_vm_id = row.Bytes(7);
  record.ticket.release_digest = row.Bytes(8);
  record.ticket.abort_digest = row.Bytes(9);
  record.release_proof = row.Bytes(10);
  record.abort_proof = row.Bytes(11);
  record.vmm_instance = row.Bytes(12);
  record.request_digest = row.Bytes(13);
  record.answer = row.Bytes(14);
  record.undo = row.Bytes(15);
  record.redo = row.Bytes(16);
  record.restored = row.Int(17) != 0;
  record.begun_at_ns = row.Int(18);
  record.changed_at_ns = row.Int(19);
  return record;
}

absl::Status WrongChecksum(const std::string& row) {
  return absl::DataLossError(absl::StrCat("the row of ", row, " has a wrong checksum"));
}

absl::Status InTransaction(Database& database, const std::function<absl::Status()>& work) {
  absl::Status status = database.Execute("BEGIN IMMEDIATE");
  if (status.ok()) status = work();
  if (status.ok()) status = database.Execute("COMMIT");
  if (!status.ok() && database.InTransaction()) (void)database.Execute("ROLLBACK");
  return status;
}

}  // namespace

const std::vector<Migration>& Migrations() {
  static const auto* const migrations = new std::vector<Migration>{Version1(), Version2()};
  return *migrations;
}

absl::Status Migrate(Database& database, int from, const std::vector<Migration>& migrations) {
  const int to = static_cast<int>(migrations.size());
  if (from == to) return absl::OkStatus();
  return InTransaction(database, [&]() -> absl::Status {
    for (int version = from; version < to; ++version) {
      for (const char* sql : migrations[static_cast<size_t>(version)]) {
        if (absl::Status status = database.Execute(sql); !status.ok()) return status;
      }
    }
    return database.Execute(absl::StrCat("PRAGMA user_version = ", to).c_str());
  });
}

absl::Status MakeSchema(Database& database, const std::string& agent_id) {
  if (absl::Status status = Migrate(database, 0, Migrations()); !status.ok()) return status;
  return InTransaction(database, [&]() -> absl::Status {
    const std::string mark = absl::StrCat("PRAGMA application_id = ", kApplicationId);
    if (absl::Status status = database.Execute(mark.c_str()); !status.ok()) return status;
    auto insert = database.Prepare("INSERT INTO agent (agent_id, crc32) VALUES (?1, ?2)");
    if (!insert.ok()) return insert.status();
    insert->BindBlob(1, agent_id);
    insert->Bind(2, Checksum().Add(agent_id).value());
    return insert->Run();
  });
}

absl::StatusOr<int> CheckSchema(Database& database) {
  const auto application_id = database.Ask("PRAGMA application_id");
  if (!application_id.ok()) return application_id.status();
  if (*application_id != absl::StrCat(kApplicationId))
    return absl::DataLossError("it is not a journal, or its beginning was overwritten");
  const auto user_version = database.Ask("PRAGMA user_version");
  if (!user_version.ok()) return user_version.status();
  int version = 0;
  if (!absl::SimpleAtoi(*user_version, &version) || version < 1)
    return absl::DataLossError("its version is not one that ever was");
  if (version > static_cast<int>(Migrations().size())) {
    return absl::FailedPreconditionError(absl::StrCat("it has version ", version,
                                                      ", made by a newer agent; this one knows ",
                                                      Migrations().size()));
  }
  const auto intact = database.Ask("PRAGMA integrity_check(1)");
  if (!intact.ok()) return intact.status();
  if (*intact != "ok") return absl::DataLossError(*intact);
  return version;
}

absl::StatusOr<std::string> ReadAgentId(Database& database) {
  auto select = database.Prepare("SELECT agent_id, crc32 FROM agent");
  if (!select.ok()) return select.status();
  const auto row = select->Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::DataLossError("it does not name its agent");
  std::string agent_id = select->Bytes(0);
  if (select->Int(1) != Checksum().Add(agent_id).value()) return WrongChecksum("the agent's id");
  return agent_id;
}

absl::StatusOr<Contents> ReadAll(Database& database) {
  Contents contents;
  auto handoffs = database.Prepare(kReadHandoffs);
  if (!handoffs.ok()) return handoffs.status();
  for (;;) {
    const auto row = handoffs->Step();
    if (!row.ok()) return row.status();
    if (!*row) break;
    HandoffRecord record = HandoffFrom(*handoffs);
    if (handoffs->Int(20) != ChecksumOf(record))
      return WrongChecksum(absl::StrCat("handoff ", record.ticket.handoff_id));
    contents.handoffs.push_back(std::move(record));
  }
  auto vms = database.Prepare(kReadVms);
  if (!vms.ok()) return vms.status();
  for (;;) {
    const auto row = vms->Step();
    if (!row.ok()) return row.status();
    if (!*row) break;
    VmRecord record{vms->Bytes(0),
                    static_cast<uint64_t>(vms->Int(1)),
                    static_cast<Standing>(vms->Int(2)),
                    vms->Bytes(3),
                    vms->Bytes(4),
                    vms->Int(6)};
    if (vms->Int(5) != ChecksumOf(record)) return WrongChecksum(absl::StrCat("VM ", record.vm_id));
    contents.vms.push_back(std::move(record));
  }
  return contents;
}

absl::StatusOr<std::unique_ptr<Writer>> Writer::Prepare(Database& database) {
  auto begin = database.Prepare("BEGIN IMMEDIATE");
  if (!begin.ok()) return begin.status();
  auto commit = database.Prepare("COMMIT");
  if (!commit.ok()) return commit.status();
  auto put_handoff = database.Prepare(kPutHandoff);
  if (!put_handoff.ok()) return put_handoff.status();
  auto put_vm = database.Prepare(kPutVm);
  if (!put_vm.ok()) return put_vm.status();
  auto drop_ended = database.Prepare(kDropEnded);
  if (!drop_ended.ok()) return drop_ended.status();
  return std::unique_ptr<Writer>(new Writer(*std::move(begin), *std::move(commit),
                                            *std::move(put_handoff), *std::move(put_vm),
                                            *std::move(drop_ended)));
}

absl::Status Writer::Put(const Change& change) {
  if (change.handoff.has_value()) {
    const HandoffRecord& record = *change.handoff;
    Statement& put = put_handoff_;
    put.BindText(1, record.ticket.handoff_id);
    put.Bind(2, static_cast<int64_t>(record.side));
    put.Bind(3, static_cast<int64_t>(record.state));
    put.BindText(4, record.vm_id);
    put.Bind(5, static_cast<int64_t>(record.ticket.epoch));
    put.BindBlob(6, record.ticket.source_agent_id);
    put.BindBlob(7, record.ticket.destination_agent_id);
    put.BindText(8, record.ticket.destination_vm_id);
    put.BindBlob(9, record.ticket.release_digest);
    put.BindBlob(10, record.ticket.abort_digest);
    put.BindBlob(11, record.release_proof);
    put.BindBlob(12, record.abort_proof);
    put.BindBlob(13, record.vmm_instance);
    put.BindBlob(14, record.request_digest);
    put.BindBlob(15, record.answer);
    put.BindBlob(16, record.undo);
    put.BindBlob(17, record.redo);
    put.Bind(18, record.restored ? 1 : 0);
    put.Bind(19, record.begun_at_ns);
    put.Bind(20, record.changed_at_ns);
    put.Bind(21, ChecksumOf(record));
    if (absl::Status status = put.Run(); !status.ok()) return status;
  }
  if (change.vm.has_value()) {
    const VmRecord& record = *change.vm;
    put_vm_.BindText(1, record.vm_id);
    put_vm_.Bind(2, static_cast<int64_t>(record.highest_epoch));
    put_vm_.Bind(3, static_cast<int64_t>(record.standing));
    put_vm_.BindText(4, record.handoff_id);
    put_vm_.BindBlob(5, record.vmm_instance);
    put_vm_.Bind(6, ChecksumOf(record));
    put_vm_.Bind(7, record.owner_uid);
    if (absl::Status status = put_vm_.Run(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<HandoffKey>> Writer::DropEnded(int64_t changed_before_ns) {
  drop_ended_.Bind(1, changed_before_ns);
  std::vector<HandoffKey> dropped;
  for (;;) {
    const auto row = drop_ended_.Step();
    if (!row.ok()) return row.status();
    if (!*row) return dropped;
    dropped.push_back({drop_ended_.Bytes(0), static_cast<Side>(drop_ended_.Int(1))});
  }
}

}  // namespace tsc_handoff::journal
