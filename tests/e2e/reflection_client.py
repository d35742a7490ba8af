"""A gRPC client that knows nothing of the agent's API but its reflection service.

It has no generated code, neither of tschandoff.v1 nor of the reflection service, whose few messages it describes
itself. Lists the services, fetches their descriptors, and calls any unary method with JSON:

    reflection_client.py ADDRESS
    reflection_client.py ADDRESS tschandoff.v1.TscAgent/ListVms '{"page_size": 10}'
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

_PACKAGE = "grpc.reflection.v1alpha"
_METHOD = f"/{_PACKAGE}.ServerReflection/ServerReflectionInfo"
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_TIMEOUT_S = 20.0

# Message -> (field, number, scalar type or message, repeated). Fields that are not needed are left out: protobuf
# skips what it does not know.
_MESSAGES: dict[str, list[tuple[str, int, int | str, bool]]] = {
    "ServerReflectionRequest": [
        ("file_by_filename", 3, _STRING, False),
        ("file_containing_symbol", 4, _STRING, False),
        ("list_services", 7, _STRING, False),
    ],
    "FileDescriptorResponse": [("file_descriptor_proto", 1, _BYTES, True)],
    "ServiceResponse": [("name", 1, _STRING, False)],
    "ListServiceResponse": [("service", 1, "ServiceResponse", True)],
    "ErrorResponse": [("error_code", 1, _INT32, False), ("error_message", 2, _STRING, False)],
    "ServerReflectionResponse": [
        ("file_descriptor_response", 4, "FileDescriptorResponse", False),
        ("list_services_response", 6, "ListServiceResponse", False),
        ("error_response", 7, "ErrorResponse", False),
    ],
}


def _reflection_file() -> descriptor_pb2.FileDescriptorProto:
    """The reflection service's messages, as a .proto file would say them."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        # A choice by which an empty string can be told from none: listing services asks with an empty one.
        choice = name == "ServerReflectionRequest"
        if choice:
            message.oneof_decl.add(name="message_request")
        for field_name, number, kind, repeated in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type = field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = kind
            if choice:
                field.oneof_index = 0
    return file


def _class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(name))


class ReflectionError(Exception):
    """The server does not know what it was asked for."""


class ReflectionClient:
    """Calls an agent, or any other server with reflection. Not thread-safe."""

    def __init__(self, address: str, channel: grpc.Channel | None = None) -> None:
        """`channel`, where the address takes more than a connection in the clear, is closed with this."""
        self._channel = channel or grpc.insecure_channel(address)
        self._pool = descriptor_pool.DescriptorPool()
        self._files: set[str] = set()
        self._services: dict[str, Any] = {}
        # A pool of its own: the server may send the real description of the same messages.
        own = descriptor_pool.DescriptorPool()
        own.Add(_reflection_file())
        self._request = _class(own, f"{_PACKAGE}.ServerReflectionRequest")
        self._response = _class(own, f"{_PACKAGE}.ServerReflectionResponse")

    def __enter__(self) -> ReflectionClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def services(self) -> list[str]:
        """The full names of all services."""
        answer = self._reflect(list_services="")
        return [service.name for service in answer.list_services_response.service]

    def methods(self, service: str) -> list[str]:
        """The names of a service's methods."""
        return [method.name for method in self._service(service).methods]

    def call(self, service: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Calls a unary method; messages as JSON with the .proto's names. Raises grpc.RpcError."""
        descriptor = self._service(service).methods_by_name.get(method)
        if descriptor is None:
            raise ReflectionError(f"{service} has no method {method}; it has {', '.join(self.methods(service))}")
        stub = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_class(self._pool, descriptor.output_type.full_name).FromString,
        )
        empty = _class(self._pool, descriptor.input_type.full_name)()
        message = json_format.ParseDict(request, empty, descriptor_pool=self._pool)
        answer = stub(message, timeout=_TIMEOUT_S)
        return json_format.MessageToDict(answer, preserving_proto_field_name=True, descriptor_pool=self._pool)

    def message_class(self, name: str) -> Any:
        """Of a message that a service's files describe, by its full name. REQUIRES: a call of that service before."""
        return _class(self._pool, name)

    def _reflect(self, **question: str) -> Any:
        stream = self._channel.stream_stream(
            _METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._response.FromString,
        )
        answer = next(iter(stream(iter([self._request(**question)]), timeout=_TIMEOUT_S)))
        if answer.HasField("error_response"):
            raise ReflectionError(f"{question}: {answer.error_response.error_message}")
        return answer

    def _service(self, name: str) -> Any:
        if name not in self._services:
            self._load(file_containing_symbol=name)
            self._services[name] = self._pool.FindServiceByName(name)
        return self._services[name]

    def _load(self, **question: str) -> None:
        """Fetches a file and, before it enters the pool, all that it imports."""
        for serialized in self._reflect(**question).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
            if file.name in self._files:
                continue
            self._files.add(file.name)
            for imported in file.dependency:
                if imported not in self._files:
                    self._load(file_by_filename=imported)
            self._pool.Add(file)


def main(arguments: list[str]) -> int:
    """The command line of this file's first lines."""
    if len(arguments) not in (1, 2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    with ReflectionClient(arguments[0]) as client:
        if len(arguments) == 1:
            for service in client.services():
                try:
                    print(service, *client.methods(service))
                except ReflectionError:  # gRPC's own health service has no descriptor
                    print(service)
            return 0
        service, _, method = arguments[1].partition("/")
        request = json.loads(arguments[2]) if len(arguments) == 3 else {}
        print(json.dumps(client.call(service, method, request), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
