"""The machine's end of the line to the agent in a node: requests and answers as JSON lines on a socket.

Thread-safe: any number of threads may call at once, one reader thread hands the answers out.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any


class ChannelError(RuntimeError):
    """The agent said no, or cannot be reached any more."""


class Channel:
    def __init__(self, sock: socket.socket, on_event: Callable[[dict[str, Any]], None],
                 on_close: Callable[[], None]) -> None:
        self._sock = sock
        self._on_event = on_event
        self._on_close = on_close
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}  # guarded by _lock
        self._closed = False  # guarded by _lock
        self._reader = threading.Thread(target=self._read, name="node-channel", daemon=True)
        self._reader.start()

    def call(self, op: str, timeout_s: float, **arguments: Any) -> Any:
        """Sends a request and returns its result; ChannelError when there is none in time."""
        request_id = next(self._ids)
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise ChannelError("the node has gone")
            self._waiting[request_id] = future
        line = json.dumps({"id": request_id, "op": op, **arguments}).encode() + b"\n"
        try:
            with self._write_lock:
                self._sock.sendall(line)
            return future.result(timeout_s)
        except FutureTimeoutError:
            raise ChannelError(f"no answer to {op} within {timeout_s:.0f} s") from None
        except OSError as error:
            raise ChannelError(f"the node has gone: {error}") from error
        finally:
            with self._lock:
                self._waiting.pop(request_id, None)

    def close(self) -> None:
        """Ends the reader; calls still waiting fail. May be called twice."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side closed first
        if threading.current_thread() is not self._reader:
            self._reader.join()
        self._sock.close()

    def _read(self) -> None:
        try:
            with self._sock.makefile("rb") as lines:
                for line in lines:
                    self._dispatch(json.loads(line))
        except (OSError, ValueError):
            pass  # cut off in the middle of a line: the same as closed
        with self._lock:
            self._closed = True
            waiting, self._waiting = list(self._waiting.values()), {}
        for future in waiting:
            future.set_exception(ChannelError("the node has gone"))
        self._on_close()

    def _dispatch(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self._on_event(message)
            return
        with self._lock:
            future = self._waiting.pop(message["id"], None)
        if future is None:
            return  # its caller has given up
        if "error" in message:
            future.set_exception(ChannelError(message["error"]))
        else:
            future.set_result(message["result"])
