"""cli_doc: a program's manual page and shell completions, from the definition of its command line."""

def cli_doc(name, program, generator, section):
    """Makes PROGRAM.SECTION, PROGRAM.bash and _PROGRAM, and the group NAME of the three.

    Args:
      name: of the group of files.
      program: the documented program.
      generator: a cc_binary around clidoc::WriteDoc.
      section: of the manual.
    """
    outputs = {
        "man": "{}.{}".format(program, section),
        "bash": program + ".bash",
        "zsh": "_" + program,
    }
    for what, output in outputs.items():
        native.genrule(
            name = "{}-{}".format(name, what),
            outs = [output],
            cmd = "$(location {}) {} > $@".format(generator, what),
            # Not as a tool: tools are built a second time, with all that they stand on.
            srcs = [generator],
        )
    native.filegroup(
        name = name,
        srcs = outputs.values(),
        visibility = ["//visibility:public"],
    )
