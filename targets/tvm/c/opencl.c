/* A device of OpenCL 1.2, whose library is opened when it is needed. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef void *handle; /* cl_mem */

#define FUNCTIONS(X) \
  X(int, clGetPlatformIDs, (uint32_t, void **, uint32_t *)) \
  X(int, clGetPlatformInfo, (void *, uint32_t, size_t, void *, size_t *)) \
  X(int, clGetDeviceIDs, (void *, uint64_t, uint32_t, void **, uint32_t *)) \
  X(int, clGetDeviceInfo, (void *, uint32_t, size_t, void *, size_t *)) \
  X(void *, clCreateContext, (const intptr_t *, uint32_t, void *const *, void *, void *, int *)) \
  X(int, clRetainContext, (void *)) \
  X(int, clReleaseContext, (void *)) \
  X(void *, clCreateCommandQueue, (void *, void *, uint64_t, int *)) \
  X(int, clReleaseCommandQueue, (void *)) \
  X(void *, clCreateProgramWithSource, \
    (void *, uint32_t, const char *const *, const size_t *, int *)) \
  X(int, clBuildProgram, (void *, uint32_t, void *const *, const char *, void *, void *)) \
  X(int, clGetProgramBuildInfo, (void *, void *, uint32_t, size_t, void *, size_t *)) \
  X(int, clReleaseProgram, (void *)) \
  X(void *, clCreateKernel, (void *, const char *, int *)) \
  X(int, clSetKernelArg, (void *, uint32_t, size_t, const void *)) \
  X(int, clReleaseKernel, (void *)) \
  X(void *, clCreateBuffer, (void *, uint64_t, size_t, void *, int *)) \
  X(void *, clCreateSubBuffer, (void *, uint64_t, uint32_t, const void *, int *)) \
  X(int, clReleaseMemObject, (void *)) \
  X(int, clEnqueueWriteBuffer, \
    (void *, void *, uint32_t, size_t, size_t, const void *, uint32_t, void *, void *)) \
  X(int, clEnqueueReadBuffer, \
    (void *, void *, uint32_t, size_t, size_t, void *, uint32_t, void *, void *)) \
  X(int, clEnqueueNDRangeKernel, \
    (void *, void *, uint32_t, const size_t *, const size_t *, const size_t *, uint32_t, void *, \
     void *)) \
  X(int, clFinish, (void *))

typedef struct {
#define FIELD(type, name, parameters) type(*name) parameters;
  FUNCTIONS(FIELD)
#undef FIELD
  void *library, *id, *context, *queue, *program;
  void *kernels[LAUNCHES];
  char *message;
} device;

enum { CL_DEVICE_NOT_FOUND = -1, CL_OUT_OF_MEMORY = -4, CL_OUT_OF_RESOURCES = -5,
       CL_OUT_OF_HOST_MEMORY = -6 };
enum { PLATFORM_NAME = 0x0902, DEVICE_NAME = 0x102b, DEVICE_ALIGN_BITS = 0x1019,
       DEVICE_GROUP = 0x1004, BUILD_LOG = 0x1183, READ_WRITE = 1, REGION = 0x1220 };
enum { MOST_IDS = 16, NAME_LENGTH = 256 };

static int failed(device *d, int status, const char *what, int code) {
  snprintf(d->message, MESSAGE_BYTES, "%s: OpenCL error %d", what, code);
  if (code == CL_OUT_OF_MEMORY || code == CL_OUT_OF_RESOURCES || code == CL_OUT_OF_HOST_MEMORY)
    return QCOMP_DEVICE_MEMORY;
  return status;
}

static int library_open(device *d) {
  const char *asked = getenv("QCOMP_OPENCL");
  const char *names[] = {asked && *asked ? asked : "libOpenCL.so.1", "libOpenCL.so"};
  for (int n = 0; n < (asked && *asked ? 1 : 2) && !d->library; n++)
    d->library = dlopen(names[n], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!d->library) {
    snprintf(d->message, MESSAGE_BYTES, "no OpenCL library: %s can't be opened", names[0]);
    return QCOMP_NO_DRIVER;
  }
#define LOADED(type, name, parameters) \
  if (!(*(void **)&d->name = dlsym(d->library, #name))) { \
    snprintf(d->message, MESSAGE_BYTES, "the OpenCL library has no %s", #name); \
    return QCOMP_NO_DRIVER; \
  }
  FUNCTIONS(LOADED)
#undef LOADED
  return QCOMP_OK;
}

/* The first device of a kind whose own or whose platform's name has the wanted text. */
static int device_found(device *d, uint64_t kind, const char *wanted) {
  void *platforms[MOST_IDS], *ids[MOST_IDS];
  uint32_t count = 0, found = 0;
  if (d->clGetPlatformIDs(MOST_IDS, platforms, &count)) return 0;
  for (uint32_t p = 0; p < count && p < MOST_IDS; p++) {
    char platform[NAME_LENGTH] = "", own[NAME_LENGTH];
    d->clGetPlatformInfo(platforms[p], PLATFORM_NAME, sizeof platform - 1, platform, 0);
    if (d->clGetDeviceIDs(platforms[p], kind, MOST_IDS, ids, &found)) continue;
    for (uint32_t n = 0; n < found && n < MOST_IDS; n++) {
      memset(own, 0, sizeof own);
      d->clGetDeviceInfo(ids[n], DEVICE_NAME, sizeof own - 1, own, 0);
      if (wanted && *wanted && !strstr(platform, wanted) && !strstr(own, wanted)) continue;
      d->id = ids[n];
      return 1;
    }
  }
  return 0;
}

static int device_chosen(device *d, const char *wanted) {
  static const uint64_t kinds[] = {4, 8, 0xffffffff}; /* GPUs, accelerators, all */
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
    if (device_found(d, kinds[k], wanted)) return QCOMP_OK;
  snprintf(d->message, MESSAGE_BYTES, "no OpenCL device%s%.100s", wanted ? " called " : "",
           wanted ? wanted : "");
  return QCOMP_NO_DEVICE;
}

static int program_built(device *d) {
  const char *text = kernel_source;
  int code;
  d->program = d->clCreateProgramWithSource(d->context, 1, &text, 0, &code);
  if (code) return failed(d, QCOMP_BAD_BUILD, "the program", code);
  code = d->clBuildProgram(d->program, 1, &d->id, "", 0, 0);
  if (!code) return QCOMP_OK;
  size_t told = (size_t)snprintf(d->message, MESSAGE_BYTES, "building: OpenCL error %d: ", code);
  char *log = d->message + told;
  size_t needed = 0;
  d->clGetProgramBuildInfo(d->program, d->id, BUILD_LOG, 0, 0, &needed);
  char *whole = needed ? (char *)malloc(needed + 1) : 0;
  if (whole && !d->clGetProgramBuildInfo(d->program, d->id, BUILD_LOG, needed, whole, 0)) {
    whole[needed] = 0;
    snprintf(log, MESSAGE_BYTES - told, "%s", whole);
  }
  free(whole);
  return QCOMP_BAD_BUILD;
}

static int device_open(device *d, const char *wanted, void *context, void *id) {
  uint32_t align = 0;
  size_t group = 0;
  int code = 0, status = library_open(d);
  if (status) return status;
  d->id = id;
  if (!context && (status = device_chosen(d, wanted))) return status;
  d->context = context;
  if (context)
    code = d->clRetainContext(context);
  else
    d->context = d->clCreateContext(0, 1, &d->id, 0, 0, &code);
  if (code) {
    d->context = 0;
    return failed(d, QCOMP_NO_DEVICE, "the context", code);
  }
  code = d->clGetDeviceInfo(d->id, DEVICE_ALIGN_BITS, sizeof align, &align, 0);
  if (!code) code = d->clGetDeviceInfo(d->id, DEVICE_GROUP, sizeof group, &group, 0);
  if (code) return failed(d, QCOMP_NO_DEVICE, "what the device is", code);
  if (align / 8 > PLACE_ALIGN || group < MOST_THREADS) {
    snprintf(d->message, MESSAGE_BYTES,
             "the device aligns buffers to %u bytes and has groups of %u; expected at most %u, "
             "and at least %u", align / 8, (unsigned)group, PLACE_ALIGN, MOST_THREADS);
    return QCOMP_NO_DEVICE;
  }
  d->queue = d->clCreateCommandQueue(d->context, d->id, 0, &code);
  if (code) return failed(d, QCOMP_DEVICE_FAILED, "the queue", code);
  return program_built(d);
}

static int device_buffer(device *d, handle *made, size_t bytes) {
  int code = 0;
  *made = d->clCreateBuffer(d->context, READ_WRITE, bytes, 0, &code);
  return code ? failed(d, QCOMP_DEVICE_MEMORY, "a buffer", code) : QCOMP_OK;
}

static int device_region(device *d, handle *made, handle whole, size_t at, size_t bytes) {
  size_t region[2] = {at, bytes};
  int code = 0;
  *made = d->clCreateSubBuffer(whole, READ_WRITE, REGION, region, &code);
  return code ? failed(d, QCOMP_DEVICE_FAILED, "a part of a buffer", code) : QCOMP_OK;
}

static int device_kernel(device *d, size_t n, const launch *l) {
  int code = 0;
  d->kernels[n] = d->clCreateKernel(d->program, l->kernel, &code);
  return code ? failed(d, QCOMP_BAD_BUILD, l->kernel, code) : QCOMP_OK;
}

static int device_write(device *d, void *queue, handle to, const void *from, size_t bytes) {
  int code = d->clEnqueueWriteBuffer(queue ? queue : d->queue, to, 0, 0, bytes, from, 0, 0, 0);
  return code ? failed(d, QCOMP_DEVICE_FAILED, "a copy to the device", code) : QCOMP_OK;
}

static int device_read(device *d, void *queue, handle from, void *to, size_t bytes) {
  int code = d->clEnqueueReadBuffer(queue ? queue : d->queue, from, 0, 0, bytes, to, 0, 0, 0);
  return code ? failed(d, QCOMP_DEVICE_FAILED, "a copy from the device", code) : QCOMP_OK;
}

static int device_launch(device *d, void *queue, size_t n, const launch *l, const handle *bound) {
  size_t all = (size_t)l->grid * l->block, group = l->block;
  int code = 0;
  for (uint32_t a = 0; a < l->count && !code; a++)
    code = d->clSetKernelArg(d->kernels[n], a, sizeof(handle), &bound[plan_arguments[l->first + a]]);
  if (!code)
    code = d->clEnqueueNDRangeKernel(queue ? queue : d->queue, d->kernels[n], 1, 0, &all, &group,
                                     0, 0, 0);
  return code ? failed(d, QCOMP_DEVICE_FAILED, l->kernel, code) : QCOMP_OK;
}

static int device_wait(device *d, void *queue) {
  int code = d->queue || queue ? d->clFinish(queue ? queue : d->queue) : 0;
  return code ? failed(d, QCOMP_DEVICE_FAILED, "the end of a run", code) : QCOMP_OK;
}

static void device_free(device *d, handle h, int kind) {
  (void)kind;
  if (h) d->clReleaseMemObject(h);
}

static void device_close(device *d) {
  for (size_t n = 0; n < LAUNCHES; n++)
    if (d->kernels[n]) d->clReleaseKernel(d->kernels[n]);
  if (d->program) d->clReleaseProgram(d->program);
  if (d->queue) d->clReleaseCommandQueue(d->queue);
  if (d->context) d->clReleaseContext(d->context);
  if (d->library) dlclose(d->library);
}
