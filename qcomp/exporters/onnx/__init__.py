"""Float and QDQ graphs out of qcomp: as ONNX models, and as sessions that run them."""
