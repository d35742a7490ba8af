#include "client/vmm/tsc_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

struct tsc_wire_header tsc_message_header(enum tsc_wire_type type, uint64_t request_id) {
  struct tsc_wire_header header = {TSC_WIRE_MAGIC, TSC_WIRE_VERSION, (uint16_t)type, request_id};
  return header;
}

int tsc_message_send(int socket, const void* message, size_t size, const int* fds,
                     uint32_t fd_count) {
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * TSC_WIRE_FDS_PER_MESSAGE)];
  } control;
  struct iovec io = {(void*)(uintptr_t)message, size};
  struct msghdr header;
  memset(&header, 0, sizeof(header));
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  if (fd_count > 0) {
    memset(&control, 0, sizeof(control));
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == (ssize_t)size ? 0 : -1;
}

ssize_t tsc_message_receive(int socket, void* buffer, size_t size) {
  struct iovec io = {buffer, size};
  struct msghdr header;
  memset(&header, 0, sizeof(header));
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  ssize_t length;
  do {
    length = recvmsg(socket, &header, 0);
  } while (length < 0 && errno == EINTR);
  if (length > 0 && (header.msg_flags & MSG_TRUNC)) return -1;
  return length;
}

int tsc_message_send_fault(int socket, const struct tsc_wire_header* request,
                           const struct tsc_kvm_fault* fault) {
  if (request->type == TSC_WIRE_READ) {
    struct tsc_wire_read_done done;
    memset(&done, 0, sizeof(done));
    done.header = tsc_message_header(TSC_WIRE_READ_DONE, request->request_id);
    done.fault = *fault;
    return tsc_message_send(socket, &done, sizeof(done), NULL, 0);
  }
  struct tsc_wire_write_done done;
  memset(&done, 0, sizeof(done));
  done.header = tsc_message_header(TSC_WIRE_WRITE_DONE, request->request_id);
  done.fault = *fault;
  return tsc_message_send(socket, &done, sizeof(done), NULL, 0);
}
