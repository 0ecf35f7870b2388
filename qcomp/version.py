"""The version, known to headers and manifests too."""

VERSION = "0.1.0"
