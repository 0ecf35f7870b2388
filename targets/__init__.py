"""targets"""

if __name__ != "qcomp.targets":
    raise ImportError("import qcomp.targets, not targets")
