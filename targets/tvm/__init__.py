"""Integer graphs through TVM: kernels for accelerators, and for any compiler of C."""
