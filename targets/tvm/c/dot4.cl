/* The sum of the products of four i8 each. */
static inline int qcomp_dot4(int a, int b) {
#ifdef __opencl_c_integer_dot_product_input_4x8bit_packed
  return dot_4x8packed_ss_int(as_uint(a), as_uint(b));
#else
  return (a << 24 >> 24) * (b << 24 >> 24) + (a << 16 >> 24) * (b << 16 >> 24) +
         (a << 8 >> 24) * (b << 8 >> 24) + (a >> 24) * (b >> 24);
#endif
}
