/* The sum of the products of four i8 each. */
static __device__ __forceinline__ int qcomp_dot4(int a, int b) { return __dp4a(a, b, 0); }
