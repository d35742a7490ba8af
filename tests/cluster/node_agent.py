"""The agent inside a node: runs commands that arrive as JSON lines on a virtio-serial port.

Every request {"id", "op", ...} is served by a thread of its own, so that a long command holds up nobody. The answer is
{"id", "result"} or {"id", "error"}; besides that come the events {"event": "ready"} and {"event": "exit", "handle",
"status"}. Python's standard library only, and few imports: every one costs boot time under emulation.
"""

import base64
import ctypes
import glob
import json
import os
import signal
import subprocess
import threading
import time

PORT_NAME = "tsc-handoff.agent"

write_lock = threading.Lock()
vouching = threading.Event()  # set: who vouched for the clock has ended
processes = {}  # handle -> Popen; guarded by the GIL: single operations only
libc = ctypes.CDLL(None, use_errno=True)


class Timex(ctypes.Structure):
    """struct timex of <sys/timex.h>, x86-64."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_sec", ctypes.c_long),
        ("time_usec", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("unused", ctypes.c_long * 7),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    ]


ADJ_MAXERROR, ADJ_ESTERROR, ADJ_STATUS, ADJ_SETOFFSET = 0x4, 0x8, 0x10, 0x100
CLAIM = ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR
STA_UNSYNC = 0x40


def adjtimex(timex):
    state = libc.adjtimex(ctypes.byref(timex))
    if state < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return state


def find_port():
    for path in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(path) as name:
            if name.read().strip() == PORT_NAME:
                return os.open("/dev/" + path.split("/")[-2], os.O_RDWR | os.O_CLOEXEC)
    raise SystemExit(f"tsc-node: no virtio port named {PORT_NAME}")


port = find_port()


def send(message):
    data = memoryview(json.dumps(message).encode() + b"\n")
    with write_lock:
        while data:
            data = data[os.write(port, data):]


def environment(request):
    return {**os.environ, **(request.get("env") or {})}


def kill_group(pid, number):
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def op_run(request):
    process = subprocess.Popen(
        request["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=request.get("cwd"), env=environment(request), start_new_session=True)
    timed_out = False
    try:
        out, err = process.communicate(base64.b64decode(request["stdin"]), request["timeout"])
    except subprocess.TimeoutExpired:
        timed_out = True
        kill_group(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    return {"status": process.returncode, "timed_out": timed_out,
            "stdout": base64.b64encode(out).decode(), "stderr": base64.b64encode(err).decode()}


def op_start(request):
    with open(request["log"], "ab", buffering=0) as log:
        process = subprocess.Popen(
            request["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            cwd=request.get("cwd"), env=environment(request), start_new_session=True)
    handle = request["handle"]
    processes[handle] = process

    def wait():
        status = process.wait()
        processes.pop(handle, None)
        send({"event": "exit", "handle": handle, "status": status})

    threading.Thread(target=wait, daemon=True).start()
    return process.pid


def op_signal(request):
    process = processes.get(request["handle"])
    if process is not None:
        if request["group"]:
            kill_group(process.pid, request["signal"])
        else:
            process.send_signal(request["signal"])
    return process is not None


def op_read(request):
    with open(request["path"], "rb") as file:
        return base64.b64encode(file.read()).decode()


def op_write(request):
    with open(request["path"], "wb", opener=lambda p, f: os.open(p, f, request["mode"])) as file:
        file.write(base64.b64decode(request["data"]))


def op_ask_socket(request):
    """Sends a line to a Unix socket and returns the first line that comes back and begins with `answers`, "" if none does."""
    import socket  # not before it is needed: it costs boot time

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(request["timeout"])
        connection.connect(request["path"])
        connection.sendall(request["line"].encode() + b"\n")
        with connection.makefile("r") as reply:
            return next((line for line in reply if line.startswith(request["answers"])), "")


def op_adjtimex(_request):
    timex = Timex()
    state = adjtimex(timex)
    return {"state": state, "status": timex.status, "synchronised": not timex.status & STA_UNSYNC,
            "maxerror_us": timex.maxerror, "esterror_us": timex.esterror, "tai": timex.tai,
            "freq_scaled_ppm": timex.freq, "tick_us": timex.tick}


def op_vouch_for_clock(request):
    """Makes this node's kernel clock say that it is right to within error_us, whatever it shows, until the next call;
    without error_us nobody vouches for it any more. The kernel adds 500 us to maxerror every second, so this is said
    again right after every second, as a time daemon does."""
    global vouching
    vouching.set()
    if request.get("error_us") is None:
        return
    ended = vouching = threading.Event()
    asked = threading.Event()

    def refresh():
        while not ended.is_set():
            timex = Timex()
            adjtimex(timex)
            timex.modes = CLAIM
            timex.status &= ~STA_UNSYNC
            timex.maxerror = timex.esterror = request["error_us"]
            adjtimex(timex)
            asked.set()
            ended.wait(1.001 - time.time() % 1.0)

    threading.Thread(target=refresh, daemon=True).start()
    asked.wait(5)


def op_step_clock(request):
    """Moves CLOCK_REALTIME by step_us at once, and does not touch what the kernel claims of it. The kernel itself takes
    a step for the end of all synchronisation, so the same call repeats what it claimed."""
    timex = Timex()
    adjtimex(timex)
    timex.modes = ADJ_SETOFFSET | CLAIM
    timex.time_sec, timex.time_usec = divmod(request["step_us"], 1_000_000)
    adjtimex(timex)


def op_ping(_request):
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


OPERATIONS = {name[3:]: function for name, function in globals().items() if name.startswith("op_")}


def serve(request):
    try:
        answer = {"id": request["id"], "result": OPERATIONS[request["op"]](request)}
    except Exception as error:  # whatever it was, the caller must hear of it
        answer = {"id": request["id"], "error": f"{type(error).__name__}: {error}"}
    send(answer)


def main():
    os.umask(0o022)
    with open("/run/.tsc-node-modules") as modules:  # returns when process 1 has loaded them
        modules.read()
    send({"event": "ready", "uptime_s": time.clock_gettime(time.CLOCK_BOOTTIME)})
    with open(port, "rb", buffering=65536, closefd=False) as requests:
        for line in requests:
            threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
    # The other side has gone: process 1 powers the node off.


main()
