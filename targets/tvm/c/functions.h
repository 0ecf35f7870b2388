/* What kernels call: integer arithmetic that would be long as one expression. In C99, OpenCL C and
   CUDA's C++ alike; the language defines qcomp_i64 and FUNCTION before. */

/* How many bits a number has that is not negative. */
FUNCTION qcomp_i64 qcomp_bit_length(qcomp_i64 x) {
  int n = 0;
  for (int step = 32; step; step >>= 1)
    if (x >> step) {
      n += step;
      x >>= step;
    }
  return n + (x > 0);
}

/* x / 2^shift, half to even; nothing is negative. */
FUNCTION qcomp_i64 qcomp_half_to_even(qcomp_i64 x, qcomp_i64 shift) {
  if (shift <= 0) return x;
  return (x + (((qcomp_i64)1 << shift) >> 1) - 1 + ((x >> shift) & 1)) >> shift;
}

/* float32(acc) times the float32 of these bits, rounded to a float32, then to an integer within
   [-1024, 1024]; each half to even. A product below 2^-126, where a float32 has fewer bits, is
   nothing to the last rounding. */
FUNCTION qcomp_i64 qcomp_float_product(qcomp_i64 acc, qcomp_i64 bits) {
  qcomp_i64 field = (bits >> 23) & 255, power, over;
  qcomp_i64 fraction = (bits & ((1 << 23) - 1)) | (field ? 1 << 23 : 0);
  qcomp_i64 size = acc < 0 ? -acc : acc;
  power = (field ? field : 1) - 150;
  over = qcomp_bit_length(size) - 24;
  if (over > 0) {
    size = qcomp_half_to_even(size, over);
    power += over;
  }
  size *= fraction;
  over = qcomp_bit_length(size) - 24;
  if (over > 0) {
    size = qcomp_half_to_even(size, over);
    power += over;
  }
  if (power < 0)
    size = qcomp_half_to_even(size, power < -62 ? 62 : -power);
  else
    size <<= power > 32 ? 32 : power;
  size = size < 1024 ? size : 1024;
  return acc < 0 ? -size : size;
}

/* gemmlowp's SaturatingRoundingDoublingHighMul of numbers of 32 bits. */
FUNCTION qcomp_i64 qcomp_high_product(qcomp_i64 a, qcomp_i64 b) {
  qcomp_i64 product = a * b;
  qcomp_i64 high = (product + (product >= 0 ? 1 << 30 : 1 - (1 << 30))) / ((qcomp_i64)1 << 31);
  return high < 2147483647 ? high : 2147483647;
}

FUNCTION qcomp_i64 qcomp_saturated(qcomp_i64 x) {
  const qcomp_i64 most = 2147483647;
  return x > most ? most : x < -most - 1 ? -most - 1 : x;
}

/* 1 / (1 + x) in Q31 of half of 1 + x, by three steps of Newton's method: gemmlowp's. */
FUNCTION qcomp_i64 qcomp_reciprocal(qcomp_i64 mantissa) {
  qcomp_i64 x = 1515870810 + qcomp_high_product(mantissa, -1010580540);
  for (int step = 0; step < 3; step++) {
    qcomp_i64 rest = (1 << 29) - qcomp_high_product(mantissa, x);
    x += qcomp_saturated(qcomp_high_product(x, rest) << 2);
  }
  return qcomp_saturated(x << 1);
}

/* n / d, rounded half away from zero; 0 where d is 0. */
FUNCTION qcomp_i64 qcomp_quotient(qcomp_i64 n, qcomp_i64 d) {
  qcomp_i64 size = n < 0 ? -n : n, by = d < 0 ? -d : d;
  size = by ? (2 * size + by) / (2 * by) : 0;
  return (n < 0) != (d < 0) ? -size : size;
}
