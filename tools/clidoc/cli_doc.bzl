"""cli_doc: a program's manual page and shell completions, from the definition of its command line."""

def cli_doc(name, generator, section):
    """Makes NAME.SECTION, NAME.bash and _NAME, as the group of files NAME-doc.

    Args:
      name: the documented program.
      generator: a cc_binary around clidoc::WriteDoc.
      section: of the manual.
    """
    outputs = {
        "man": "{}.{}".format(name, section),
        "bash": name + ".bash",
        "zsh": "_" + name,
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
        name = name + "-doc",
        srcs = outputs.values(),
        visibility = ["//visibility:public"],
    )
