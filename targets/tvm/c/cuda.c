/* A device of CUDA's driver API, whose library is opened when it is needed. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef uintptr_t handle; /* CUdeviceptr */

#define FUNCTIONS(X) \
  X(cuInit, "cuInit", (unsigned)) \
  X(cuDeviceGetCount, "cuDeviceGetCount", (int *)) \
  X(cuDeviceGet, "cuDeviceGet", (int *, int)) \
  X(cuDeviceGetName, "cuDeviceGetName", (char *, int, int)) \
  X(cuPrimaryRetain, "cuDevicePrimaryCtxRetain", (void **, int)) \
  X(cuPrimaryRelease, "cuDevicePrimaryCtxRelease_v2", (int)) \
  X(cuPush, "cuCtxPushCurrent_v2", (void *)) \
  X(cuPop, "cuCtxPopCurrent_v2", (void **)) \
  X(cuModuleLoadData, "cuModuleLoadData", (void **, const void *)) \
  X(cuModuleUnload, "cuModuleUnload", (void *)) \
  X(cuModuleGetFunction, "cuModuleGetFunction", (void **, void *, const char *)) \
  X(cuMemAlloc, "cuMemAlloc_v2", (handle *, size_t)) \
  X(cuMemFree, "cuMemFree_v2", (handle)) \
  X(cuStreamCreate, "cuStreamCreate", (void **, unsigned)) \
  X(cuStreamDestroy, "cuStreamDestroy_v2", (void *)) \
  X(cuStreamSynchronize, "cuStreamSynchronize", (void *)) \
  X(cuCopyTo, "cuMemcpyHtoDAsync_v2", (handle, const void *, size_t, void *)) \
  X(cuCtxGetDevice, "cuCtxGetDevice", (int *)) \
  X(cuAttribute, "cuDeviceGetAttribute", (int *, int, int)) \
  X(cuCopyFrom, "cuMemcpyDtoHAsync_v2", (void *, handle, size_t, void *)) \
  X(cuLaunchKernel, "cuLaunchKernel", \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, \
     void **))

typedef struct {
#define FIELD(name, symbol, parameters) int(*name) parameters;
  FUNCTIONS(FIELD)
#undef FIELD
  void *library, *context, *stream, *module;
  void *kernels[LAUNCHES];
  int number, retained;
  char *message;
} device;

enum { OUT_OF_MEMORY = 2, MOST_ARGUMENTS = 32, NAME_LENGTH = 256 };

static int failed(device *d, int status, const char *what, int code) {
  snprintf(d->message, MESSAGE_BYTES, "%s: CUDA error %d", what, code);
  return code == OUT_OF_MEMORY ? QCOMP_DEVICE_MEMORY : status;
}

/* Every function works in the context of the arena, and leaves the thread's as it was. */
static int in_context(device *d, int status, const char *what, int code) {
  void *own = 0;
  d->cuPop(&own);
  return code ? failed(d, status, what, code) : QCOMP_OK;
}

static int library_open(device *d) {
  const char *asked = getenv("QCOMP_CUDA");
  const char *name = asked && *asked ? asked : "libcuda.so.1";
  d->library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!d->library) {
    snprintf(d->message, MESSAGE_BYTES, "no CUDA driver: %.200s can't be opened", name);
    return QCOMP_NO_DRIVER;
  }
#define LOADED(name, symbol, parameters) \
  if (!(*(void **)&d->name = dlsym(d->library, symbol))) { \
    snprintf(d->message, MESSAGE_BYTES, "the CUDA driver has no %s", symbol); \
    return QCOMP_NO_DRIVER; \
  }
  FUNCTIONS(LOADED)
#undef LOADED
  return QCOMP_OK;
}

static int device_chosen(device *d, const char *wanted) {
  int count = 0, code = d->cuInit(0);
  char name[NAME_LENGTH];
  if (!code) code = d->cuDeviceGetCount(&count);
  if (code) return failed(d, QCOMP_NO_DEVICE, "the driver", code);
  for (int n = 0; n < count; n++) {
    memset(name, 0, sizeof name);
    if (d->cuDeviceGet(&d->number, n)) continue;
    d->cuDeviceGetName(name, sizeof name - 1, d->number);
    if (wanted && *wanted && !strstr(name, wanted)) continue;
    code = d->cuPrimaryRetain(&d->context, d->number);
    d->retained = !code;
    return code ? failed(d, QCOMP_NO_DEVICE, "the context", code) : QCOMP_OK;
  }
  snprintf(d->message, MESSAGE_BYTES, "no CUDA device%s%.100s", wanted ? " called " : "",
           wanted ? wanted : "");
  return QCOMP_NO_DEVICE;
}

#ifdef KERNELS_AS_SOURCE /* which NVRTC compiles: nvcc was not there */

#define COMPILER(X) \
  X(nvrtcCreateProgram, \
    (void **, const char *, const char *, int, const char *const *, const char *const *)) \
  X(nvrtcCompileProgram, (void *, int, const char *const *)) \
  X(nvrtcGetProgramLogSize, (void *, size_t *)) \
  X(nvrtcGetProgramLog, (void *, char *)) \
  X(nvrtcGetCUBINSize, (void *, size_t *)) \
  X(nvrtcGetCUBIN, (void *, char *)) \
  X(nvrtcDestroyProgram, (void **))

typedef struct {
#define FIELD(name, parameters) int(*name) parameters;
  COMPILER(FIELD)
#undef FIELD
  void *library, *program;
} compiler;

static int compiler_open(device *d, compiler *c) {
  const char *asked = getenv("QCOMP_NVRTC");
  const char *names[] = {asked && *asked ? asked : "libnvrtc.so.13", "libnvrtc.so.12",
                         "libnvrtc.so"};
  for (int n = 0; n < (asked && *asked ? 1 : 3) && !c->library; n++)
    c->library = dlopen(names[n], RTLD_NOW | RTLD_LOCAL);
  if (!c->library) {
    snprintf(d->message, MESSAGE_BYTES, "the kernels are source, and no NVRTC is there: %.200s "
             "can't be opened", names[0]);
    return QCOMP_BAD_BUILD;
  }
#define LOADED(name, parameters) \
  if (!(*(void **)&c->name = dlsym(c->library, #name))) { \
    snprintf(d->message, MESSAGE_BYTES, "NVRTC has no %s", #name); \
    return QCOMP_BAD_BUILD; \
  }
  COMPILER(LOADED)
#undef LOADED
  return QCOMP_OK;
}

static int refused(device *d, compiler *c, int code) {
  size_t told = (size_t)snprintf(d->message, MESSAGE_BYTES, "the kernels: NVRTC error %d: ", code);
  size_t needed = 0;
  if (!c->program || c->nvrtcGetProgramLogSize(c->program, &needed) || !needed)
    return QCOMP_BAD_BUILD;
  char *log = (char *)malloc(needed);
  if (log && !c->nvrtcGetProgramLog(c->program, log))
    snprintf(d->message + told, MESSAGE_BYTES - told, "%s", log);
  free(log);
  return QCOMP_BAD_BUILD;
}

/* A cubin for the device of the current context; the caller frees it. */
static int compiled(device *d, compiler *c, char **image) {
  int major = 0, minor = 0, number = 0, code = d->cuCtxGetDevice(&number);
  char option[64];
  const char *options[] = {option};
  size_t bytes = 0;
  if (!code) code = d->cuAttribute(&major, 75, number);
  if (!code) code = d->cuAttribute(&minor, 76, number);
  if (code) return failed(d, QCOMP_NO_DEVICE, "what the device is", code);
  snprintf(option, sizeof option, "--gpu-architecture=sm_%d%d", major, minor);
  code = c->nvrtcCreateProgram(&c->program, kernel_source, "kernels.cu", 0, 0, 0);
  if (!code) code = c->nvrtcCompileProgram(c->program, 1, options);
  if (!code) code = c->nvrtcGetCUBINSize(c->program, &bytes);
  if (code) return refused(d, c, code);
  *image = (char *)malloc(bytes ? bytes : 1);
  if (!*image || (code = c->nvrtcGetCUBIN(c->program, *image))) return refused(d, c, code);
  return QCOMP_OK;
}

static int module_loaded(device *d) {
  compiler c;
  char *image = 0;
  memset(&c, 0, sizeof c);
  int status = compiler_open(d, &c), code;
  if (!status) status = compiled(d, &c, &image);
  if (!status && (code = d->cuModuleLoadData(&d->module, image)))
    status = failed(d, QCOMP_BAD_BUILD, "the kernels", code);
  free(image);
  if (c.program) c.nvrtcDestroyProgram(&c.program);
  if (c.library) dlclose(c.library);
  return status;
}

#else

static int module_loaded(device *d) {
  int code = d->cuModuleLoadData(&d->module, kernel_image);
  return code ? failed(d, QCOMP_BAD_BUILD, "the kernels", code) : QCOMP_OK;
}

#endif

static int device_open(device *d, const char *wanted, void *context, void *id) {
  int code, status = library_open(d);
  (void)id;
  d->context = context;
  if (!status && !context) status = device_chosen(d, wanted);
  if (status) return status;
  if ((code = d->cuPush(d->context))) return failed(d, QCOMP_NO_DEVICE, "the context", code);
  status = module_loaded(d);
  code = status ? 0 : d->cuStreamCreate(&d->stream, 1);
  code = in_context(d, QCOMP_DEVICE_FAILED, "the stream", code);
  return status ? status : code;
}

static int device_buffer(device *d, handle *made, size_t bytes) {
  d->cuPush(d->context);
  return in_context(d, QCOMP_DEVICE_MEMORY, "a buffer", d->cuMemAlloc(made, bytes));
}

static int device_region(device *d, handle *made, handle whole, size_t at, size_t bytes) {
  (void)d;
  (void)bytes;
  *made = whole + at;
  return QCOMP_OK;
}

static int device_kernel(device *d, size_t n, const launch *l) {
  d->cuPush(d->context);
  return in_context(d, QCOMP_BAD_BUILD, l->kernel,
                    d->cuModuleGetFunction(&d->kernels[n], d->module, l->kernel));
}

static int device_write(device *d, void *queue, handle to, const void *from, size_t bytes) {
  d->cuPush(d->context);
  return in_context(d, QCOMP_DEVICE_FAILED, "a copy to the device",
                    d->cuCopyTo(to, from, bytes, queue ? queue : d->stream));
}

static int device_read(device *d, void *queue, handle from, void *to, size_t bytes) {
  d->cuPush(d->context);
  return in_context(d, QCOMP_DEVICE_FAILED, "a copy from the device",
                    d->cuCopyFrom(to, from, bytes, queue ? queue : d->stream));
}

static int device_launch(device *d, void *queue, size_t n, const launch *l, const handle *bound) {
  handle values[MOST_ARGUMENTS];
  void *pointers[MOST_ARGUMENTS];
  if (l->count > MOST_ARGUMENTS) return failed(d, QCOMP_DEVICE_FAILED, l->kernel, 1);
  for (uint32_t a = 0; a < l->count; a++) {
    values[a] = bound[plan_arguments[l->first + a]];
    pointers[a] = &values[a];
  }
  d->cuPush(d->context);
  return in_context(d, QCOMP_DEVICE_FAILED, l->kernel,
                    d->cuLaunchKernel(d->kernels[n], l->grid, 1, 1, l->block, 1, 1, 0,
                                      queue ? queue : d->stream, pointers, 0));
}

static int device_wait(device *d, void *queue) {
  d->cuPush(d->context);
  return in_context(d, QCOMP_DEVICE_FAILED, "the end of a run",
                    d->cuStreamSynchronize(queue ? queue : d->stream));
}

static void device_free(device *d, handle h, int kind) {
  if (!h || !d->context || kind != IN_ARGUMENTS) return; /* parts of buffers are none */
  d->cuPush(d->context);
  d->cuMemFree(h);
  in_context(d, 0, "", 0);
}

static void device_close(device *d) {
  if (d->context && d->module) {
    d->cuPush(d->context);
    if (d->stream) d->cuStreamDestroy(d->stream);
    d->cuModuleUnload(d->module);
    in_context(d, 0, "", 0);
  }
  if (d->retained) d->cuPrimaryRelease(d->number);
  if (d->library) dlclose(d->library);
}
