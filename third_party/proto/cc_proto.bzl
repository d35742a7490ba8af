"""tsc_cc_proto_library: C++ from .proto files with Debian's protoc and grpc_cpp_plugin.

The import root is the workspace's proto/ directory, whatever package below it the rule stands in:
proto/tschandoff/v1/tsc_agent.proto is imported as "tschandoff/v1/tsc_agent.proto" and its generated
headers are included as "tschandoff/v1/tsc_agent.pb.h" and "tschandoff/v1/tsc_agent.grpc.pb.h".
"""

_ROOT = "proto"

def tsc_cc_proto_library(name, srcs, deps = [], grpc = False, visibility = None, testonly = False):
    """Compiles .proto files to a C++ library.

    Args:
      name: the cc_library. NAME_protos is a filegroup of the .proto files with those of deps, and NAME_descriptor
        a serialised FileDescriptorSet (NAME.desc) with imports and comments.
      srcs: .proto files of this package (subdirectories are fine).
      deps: tsc_cc_proto_library targets whose files are imported. google/protobuf/*.proto are always there.
      grpc: also generate the gRPC services, and link gRPC.
      visibility: of all the targets.
      testonly: of all the targets.
    """
    package = native.package_name()
    if package != _ROOT and not package.startswith(_ROOT + "/"):
        fail("tsc_cc_proto_library works in packages under //%s, not in //%s" % (_ROOT, package))
    bases = []
    for src in srcs:
        if not src.endswith(".proto"):
            fail("%s: srcs has %s, which is no .proto file" % (name, src))
        bases.append(src[:-len(".proto")])

    native.filegroup(
        name = name + "_protos",
        testonly = testonly,
        srcs = srcs + [dep + "_protos" for dep in _full_labels(deps)],
        visibility = visibility,
    )

    sources = [base + ".pb.cc" for base in bases]
    headers = [base + ".pb.h" for base in bases]
    plugin_flags = ""
    tools = ["@system//:bin/protoc"]
    if grpc:
        sources += [base + ".grpc.pb.cc" for base in bases]
        headers += [base + ".grpc.pb.h" for base in bases]
        tools.append("@system//:bin/grpc_cpp_plugin")
        plugin_flags = (" --plugin=protoc-gen-grpc=$(execpath @system//:bin/grpc_cpp_plugin)" +
                        " --grpc_out=$(BINDIR)/" + _ROOT)
    inputs = " ".join(["$(execpath %s)" % src for src in srcs])

    native.genrule(
        name = name + "_gen",
        testonly = testonly,
        srcs = srcs + [name + "_protos"],
        outs = sources + headers,
        cmd = ("$(execpath @system//:bin/protoc) -I%s --cpp_out=$(BINDIR)/%s%s %s" %
               (_ROOT, _ROOT, plugin_flags, inputs)),
        message = "Generating C++ of",
        tools = tools,
        visibility = ["//visibility:private"],
    )

    native.genrule(
        name = name + "_descriptor",
        testonly = testonly,
        srcs = srcs + [name + "_protos"],
        outs = [name + ".desc"],
        cmd = ("$(execpath @system//:bin/protoc) -I%s --include_imports --include_source_info" % _ROOT +
               " --descriptor_set_out=$@ " + inputs),
        tools = ["@system//:bin/protoc"],
        visibility = visibility,
    )

    native.cc_library(
        name = name,
        testonly = testonly,
        srcs = sources,
        hdrs = headers,
        strip_include_prefix = "/" + _ROOT,
        visibility = visibility,
        deps = deps + ["@system//:grpc++" if grpc else "@system//:protobuf"],
    )

def _full_labels(labels):
    """Labels with an explicit target name, so that a suffix can be appended: //a/b -> //a/b:b."""
    full = []
    for label in labels:
        if ":" in label:
            full.append(label)
        elif label.startswith("//") or label.startswith("@"):
            full.append(label + ":" + label.split("/")[-1])
        else:
            full.append(":" + label)
    return full
