/* What kernels call on processors, whose threads compute with vectors. */
#define OVERLOADED __attribute__((overloadable))

/* The sums of the products of neighbours. */
#ifdef __AVX2__
typedef short qcomp_shorts __attribute__((vector_size(32)));
static inline int8 qcomp_pairs(short16 a, short16 b) {
  return __builtin_astype(__builtin_ia32_pmaddwd256((qcomp_shorts)a, (qcomp_shorts)b), int8);
}
#else
static inline int8 qcomp_pairs(short16 a, short16 b) {
  return convert_int8(a.even) * convert_int8(b.even) + convert_int8(a.odd) * convert_int8(b.odd);
}
#endif

/* The sum of the products of four i8 each: of the even ones, and of the odd ones, as i16. */
static inline int OVERLOADED qcomp_dot4(int a, int b) {
  return (a << 24 >> 24) * (b << 24 >> 24) + (a << 16 >> 24) * (b << 16 >> 24) +
         (a << 8 >> 24) * (b << 8 >> 24) + (a >> 24) * (b >> 24);
}
static inline int8 OVERLOADED qcomp_dot4(int8 a, int8 b) {
  short16 x = as_short16(a), w = as_short16(b);
  return qcomp_pairs(x << (short)8 >> (short)8, w << (short)8 >> (short)8) +
         qcomp_pairs(x >> (short)8, w >> (short)8);
}
static inline int16 OVERLOADED qcomp_dot4(int16 a, int16 b) {
  return (int16)(qcomp_dot4(a.lo, b.lo), qcomp_dot4(a.hi, b.hi));
}
static inline int4 OVERLOADED qcomp_dot4(int4 a, int4 b) {
  return qcomp_dot4((int8)(a, a), (int8)(b, b)).lo;
}
static inline int2 OVERLOADED qcomp_dot4(int2 a, int2 b) {
  return (int2)(qcomp_dot4(a.x, b.x), qcomp_dot4(a.y, b.y));
}

/* PoCL's own stores go byte by byte. */
#define STORE_IN(space, type, n) \
  static inline void OVERLOADED qcomp_store##n(type##n v, size_t at, space type *to) { \
    *(space type##n##_anywhere *)(to + at * n) = v; \
  }
#define STORE(type, n) \
  typedef type##n type##n##_anywhere __attribute__((aligned(sizeof(type)))); \
  STORE_IN(__global, type, n) STORE_IN(__local, type, n) STORE_IN(__private, type, n)
#define STORES(n) STORE(char, n) STORE(short, n) STORE(int, n) STORE(long, n)
STORES(2) STORES(4) STORES(8) STORES(16)
#undef vstore2
#undef vstore4
#undef vstore8
#undef vstore16
#define vstore2 qcomp_store2
#define vstore4 qcomp_store4
#define vstore8 qcomp_store8
#define vstore16 qcomp_store16
