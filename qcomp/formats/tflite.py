"""The schema of TensorFlow Lite's files, version 3: the parts that qcomp reads and writes.

Slots and numbers are those of tensorflow/compiler/mlir/lite/schema/schema.fbs. A test holds them to
the code that was generated from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from qcomp.formats.flatbuffer import Field, Schema

IDENTIFIER = b"TFL3"
VERSION = 3

OPTIONS: Mapping[int, str] = {
    1: "Conv2DOptions",
    2: "DepthwiseConv2DOptions",
    5: "Pool2DOptions",
    8: "FullyConnectedOptions",
    9: "SoftmaxOptions",
    10: "ConcatenationOptions",
    11: "AddOptions",
    12: "L2NormOptions",
    15: "ResizeBilinearOptions",
    17: "ReshapeOptions",
    19: "SpaceToDepthOptions",
    21: "MulOptions",
    23: "GatherOptions",
    27: "ReducerOptions",
    28: "SubOptions",
    29: "DivOptions",
    30: "SqueezeOptions",
    32: "StridedSliceOptions",
    35: "SplitOptions",
    40: "ArgMaxOptions",
    49: "TransposeConvOptions",
    59: "PackOptions",
    64: "UnpackOptions",
    71: "UnidirectionalSequenceLSTMOptions",
    74: "ResizeNearestNeighborOptions",
    75: "LeakyReluOptions",
    77: "MirrorPadOptions",
    79: "SplitVOptions",
    94: "DepthToSpaceOptions",
    101: "BatchMatMulOptions",
    116: "GeluOptions",
}
"""Tables of options by their number, of operators that have options to ask for."""

INDICES: Mapping[int, str] = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}


def _table(fields: str) -> Mapping[str, Field]:
    """From `slot:name:type` and `slot:name:type=default`."""
    read = {}
    for told in fields.split():
        slot, name, rest = told.split(":")
        type, _, default = rest.partition("=")
        read[name] = Field(int(slot), type, float(default or 0))
    return read


_ACTIVATION = "fused_activation_function:i8"
_RESIZE = "align_corners:bool", "half_pixel_centers:bool"

SCHEMA: Schema = {
    "Model": _table(
        "0:version:u32 1:operator_codes:[OperatorCode] 2:subgraphs:[SubGraph] 3:description:string "
        "4:buffers:[Buffer]"
    ),
    "OperatorCode": _table(
        "0:deprecated_builtin_code:i8 1:custom_code:string 2:version:i32=1 3:builtin_code:i32"
    ),
    "SubGraph": _table(
        "0:tensors:[Tensor] 1:inputs:[i32] 2:outputs:[i32] 3:operators:[Operator] 4:name:string"
    ),
    "Buffer": _table("0:data:[u8] 1:offset:u64 2:size:u64"),
    "Tensor": _table(
        "0:shape:[i32] 1:type:i8 2:buffer:u32 3:name:string 4:quantization:QuantizationParameters "
        "5:is_variable:bool 6:sparsity:SparsityParameters 7:shape_signature:[i32] "
        "10:external_buffer:u32"
    ),
    "QuantizationParameters": _table(
        "2:scale:[f32] 3:zero_point:[i64] 4:details_type:u8 6:quantized_dimension:i32"
    ),
    "SparsityParameters": _table(
        "0:traversal_order:[i32] 1:block_map:[i32] 2:dim_metadata:[DimensionMetadata]"
    ),
    "DimensionMetadata": {
        **_table("0:format:i8 1:dense_size:i32 2:array_segments_type:u8 4:array_indices_type:u8"),
        "array_segments": Field(3, "union", union=INDICES),
        "array_indices": Field(5, "union", union=INDICES),
    },
    "Int32Vector": _table("0:values:[i32]"),
    "Uint16Vector": _table("0:values:[u16]"),
    "Uint8Vector": _table("0:values:[u8]"),
    "Operator": {
        **_table("0:opcode_index:u32 1:inputs:[i32] 2:outputs:[i32] 3:builtin_options_type:u8"),
        "builtin_options": Field(4, "union", union=OPTIONS),
    },
    "Conv2DOptions": _table(
        f"0:padding:i8 1:stride_w:i32 2:stride_h:i32 3:{_ACTIVATION} 4:dilation_w_factor:i32=1 "
        "5:dilation_h_factor:i32=1 6:quantized_bias_type:i8"
    ),
    "DepthwiseConv2DOptions": _table(
        f"0:padding:i8 1:stride_w:i32 2:stride_h:i32 3:depth_multiplier:i32 4:{_ACTIVATION} "
        "5:dilation_w_factor:i32=1 6:dilation_h_factor:i32=1"
    ),
    "TransposeConvOptions": _table(
        f"0:padding:i8 1:stride_w:i32 2:stride_h:i32 3:{_ACTIVATION} 4:quantized_bias_type:i8"
    ),
    "FullyConnectedOptions": _table(
        f"0:{_ACTIVATION} 1:weights_format:i8 2:keep_num_dims:bool 4:quantized_bias_type:i8"
    ),
    "UnidirectionalSequenceLSTMOptions": _table(
        f"0:{_ACTIVATION} 1:cell_clip:f32 2:proj_clip:f32 3:time_major:bool "
        "4:asymmetric_quantize_inputs:bool 5:diagonal_recurrent_tensors:bool"
    ),
    "BatchMatMulOptions": _table("0:adj_x:bool 1:adj_y:bool"),
    "Pool2DOptions": _table(
        "0:padding:i8 1:stride_w:i32 2:stride_h:i32 3:filter_width:i32 4:filter_height:i32 "
        f"5:{_ACTIVATION}"
    ),
    "AddOptions": _table(f"0:{_ACTIVATION} 1:pot_scale_int16:bool=1"),
    "SubOptions": _table(f"0:{_ACTIVATION} 1:pot_scale_int16:bool=1"),
    "MulOptions": _table(f"0:{_ACTIVATION}"),
    "DivOptions": _table(f"0:{_ACTIVATION}"),
    "L2NormOptions": _table(f"0:{_ACTIVATION}"),
    "ConcatenationOptions": _table(f"0:axis:i32 1:{_ACTIVATION}"),
    "SoftmaxOptions": _table("0:beta:f32"),
    "LeakyReluOptions": _table("0:alpha:f32"),
    "GeluOptions": _table("0:approximate:bool"),
    "ResizeBilinearOptions": _table(f"2:{_RESIZE[0]} 3:{_RESIZE[1]}"),
    "ResizeNearestNeighborOptions": _table(f"0:{_RESIZE[0]} 1:{_RESIZE[1]}"),
    "ReshapeOptions": _table("0:new_shape:[i32]"),
    "ArgMaxOptions": _table("0:output_type:i8"),
    "SqueezeOptions": _table("0:squeeze_dims:[i32]"),
    "SplitOptions": _table("0:num_splits:i32"),
    "SplitVOptions": _table("0:num_splits:i32"),
    "PackOptions": _table("0:values_count:i32 1:axis:i32"),
    "UnpackOptions": _table("0:num:i32 1:axis:i32"),
    "GatherOptions": _table("0:axis:i32 1:batch_dims:i32"),
    "SpaceToDepthOptions": _table("0:block_size:i32"),
    "DepthToSpaceOptions": _table("0:block_size:i32"),
    "MirrorPadOptions": _table("0:mode:i8"),
    "ReducerOptions": _table("0:keep_dims:bool"),
    "StridedSliceOptions": _table(
        "0:begin_mask:i32 1:end_mask:i32 2:ellipsis_mask:i32 3:new_axis_mask:i32 "
        "4:shrink_axis_mask:i32 5:offset:bool"
    ),
}

_TYPES = (
    "FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 "
    "RESOURCE VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN FLOAT8_E5M2"
)
ELEMENT_TYPES = tuple(_TYPES.split())
"""By number."""

_BUILTIN = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
    EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
    LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
    RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
    CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
    SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
    CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
    SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
    ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
    REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
    LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
    WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
    NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
    REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
    BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
    UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
    RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY
    STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL
    STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
    STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
    STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
    STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE
    STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
    DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT
    STABLEHLO_CBRT STABLEHLO_CASE
"""
OPERATORS = tuple(_BUILTIN.split())
"""By number, the builtin ones."""
CUSTOM = OPERATORS.index("CUSTOM")
