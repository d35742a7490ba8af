"""fuzz_target: something that parses foreign bytes, as an ordinary test and for libFuzzer."""

def fuzz_target(name, srcs, deps = []):
    """NAME_test runs the seeds and thousands of damaged ones; NAME_fuzzer is libFuzzer's, see ./run fuzz.

    Args:
      name: what is fuzzed.
      srcs: one file that defines what target.h declares.
      deps: what it needs.
    """
    native.cc_library(
        name = name + "_target",
        testonly = True,
        srcs = srcs,
        deps = deps + [
            ":bytes",
            ":target",
        ],
        alwayslink = True,
    )
    native.cc_test(
        name = name + "_test",
        size = "medium",
        srcs = ["seeds_test.cc"],
        deps = [
            ":" + name + "_target",
            ":target",
            "@system//:gtest_main",
        ],
    )
    native.cc_binary(
        name = name + "_fuzzer",
        testonly = True,
        srcs = ["write_seeds.cc"],
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [
            ":" + name + "_target",
            ":target",
        ],
    )
