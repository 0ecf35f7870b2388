"""passes"""

if __name__ != "qcomp.passes":
    raise ImportError("import qcomp.passes, not passes")
