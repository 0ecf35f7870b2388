// A driver of CUDA that runs kernels on this processor, thread after thread: a library with the
// functions that launchers load. It is for kernels without barriers. The kernels are compiled with
// it: shim_kernels.inc includes them, and lists them by name with functions that unpack arguments.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <cmath>
#include <algorithm>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)
#define __restrict__
using std::max;
using std::min;

struct dim3_ { int x, y, z; };
static thread_local dim3_ blockIdx, threadIdx;

static inline int __dp4a(int a, int b, int c) {
  int8_t x[4], y[4];
  memcpy(x, &a, 4);
  memcpy(y, &b, 4);
  for (int n = 0; n < 4; n++) c += x[n] * y[n];
  return c;
}

#define VECTOR(type, name) \
  struct alignas(4 * sizeof(type)) name##4 { type x, y, z, w; }; \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; }; \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; } \
  static inline name##2 make_##name##2(type x, type y) { return {x, y}; }
VECTOR(signed char, char)
VECTOR(unsigned char, uchar)
VECTOR(short, short)
VECTOR(unsigned short, ushort)
VECTOR(int, int)
VECTOR(long long, longlong)

#include "shim_kernels.inc"

extern "C" {
static const int found_nothing = 500, no_memory = 2;
static long allocations;

int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int *count) { return *count = getenv("SHIM_NO_DEVICE") ? 0 : 1, 0; }
int cuDeviceGet(int *device, int) { return *device = 0; }
int cuDeviceGetName(char *name, int length, int) { return strncpy(name, "shim", length), 0; }
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &allocations, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxPushCurrent_v2(void *) { return 0; }
int cuCtxPopCurrent_v2(void **context) { return *context = nullptr, 0; }
int cuCtxGetDevice(int *device) { return *device = 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
  const char *major = getenv("SHIM_MAJOR");
  return *value = attribute == 75 ? (major ? atoi(major) : 9) : 0, 0;
}
int cuModuleLoadData(void **module, const void *) {
  return *module = &allocations, getenv("SHIM_BAD_BUILD") ? 200 : 0;
}
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) {
  for (const shim_kernel &k : shim_kernels)
    if (!strcmp(k.name, name)) return *function = (void *)&k, 0;
  return found_nothing;
}
int cuMemAlloc_v2(uintptr_t *made, size_t bytes) {
  const char *most = getenv("SHIM_MOST_BYTES");
  if (most && bytes > strtoul(most, nullptr, 10)) return no_memory;
  *made = (uintptr_t)aligned_alloc(512, (bytes + 511) / 512 * 512);
  allocations++;
  return 0;
}
int cuMemFree_v2(uintptr_t p) { return free((void *)p), allocations--, 0; }
int cuStreamCreate(void **stream, unsigned) { return *stream = &allocations, 0; }
int cuStreamDestroy_v2(void *) { return 0; }
int cuStreamSynchronize(void *) { return 0; }
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *) {
  return memcpy((void *)to, from, bytes), 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *) {
  return memcpy(to, (void *)from, bytes), 0;
}
int cuLaunchKernel(void *f, unsigned gx, unsigned, unsigned, unsigned bx, unsigned, unsigned,
                   unsigned, void *, void **arguments, void **) {
  for (unsigned g = 0; g < gx; g++)
    for (unsigned t = 0; t < bx; t++) {
      blockIdx = {(int)g, 0, 0};
      threadIdx = {(int)t, 0, 0};
      ((const shim_kernel *)f)->run(arguments);
    }
  return 0;
}
long shim_allocations() { return allocations; }
}
