/* A driver of OpenCL that runs nothing, counts what lives, and fails at the call it is told to:
   a library with the functions that launchers load. Buffers are memory, so copies are copies. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static long calls, fails_at, live;
static int fails_with;

/* The call number `at`, from 1, of those that can fail returns `code`; 0: none does. */
void fake_fails(long at, int code) { calls = 0, fails_at = at, fails_with = code; }
long fake_calls(void) { return calls; }
long fake_live(void) { return live; }

static int failed(void) { return ++calls == fails_at; }

/* An object of its own, so that what is lost is a leak. */
static void *made(size_t bytes, int *code) {
  int bad = failed();
  *code = bad ? fails_with : 0;
  if (bad) return 0;
  live++;
  return calloc(bytes ? bytes : 1, 1);
}

static int released(void *object) {
  live--;
  free(object);
  return 0;
}

/* A buffer, or a part of one. */
typedef struct { char *bytes; void *owned; } memory;

static char platform, chip;

int clGetPlatformIDs(uint32_t most, void **ids, uint32_t *count) {
  (void)most;
  ids[0] = &platform;
  *count = 1;
  return 0;
}
int clGetPlatformInfo(void *id, uint32_t what, size_t size, void *value, size_t *needed) {
  (void)id, (void)what, (void)needed;
  strncpy(value, "Fake platform", size);
  return 0;
}
int clGetDeviceIDs(void *id, uint64_t kind, uint32_t most, void **ids, uint32_t *count) {
  (void)id, (void)kind, (void)most;
  ids[0] = &chip;
  *count = 1;
  return 0;
}
int clGetDeviceInfo(void *id, uint32_t what, size_t size, void *value, size_t *needed) {
  (void)id, (void)needed;
  if (what == 0x102b) return strncpy(value, "Fake chip", size), 0;
  if (failed()) return fails_with;
  switch (what) {
    case 0x1019: *(uint32_t *)value = 1024; break;
    case 0x1004: *(size_t *)value = 256; break;
  }
  return 0;
}
void *clCreateContext(const intptr_t *p, uint32_t n, void *const *ids, void *f, void *u, int *code) {
  (void)p, (void)n, (void)ids, (void)f, (void)u;
  return made(1, code);
}
int clRetainContext(void *context) { return (void)context, failed() ? fails_with : (live++, 0); }
int clReleaseContext(void *context) { return released(context); }
void *clCreateCommandQueue(void *context, void *id, uint64_t flags, int *code) {
  (void)context, (void)id, (void)flags;
  return made(1, code);
}
int clReleaseCommandQueue(void *queue) { return released(queue); }
void *clCreateProgramWithSource(void *c, uint32_t n, const char *const *text, const size_t *l, int *code) {
  (void)c, (void)n, (void)text, (void)l;
  return made(1, code);
}
int clBuildProgram(void *p, uint32_t n, void *const *ids, const char *options, void *f, void *u) {
  (void)p, (void)n, (void)ids, (void)options, (void)f, (void)u;
  return failed() ? fails_with : 0;
}
int clGetProgramBuildInfo(void *p, void *id, uint32_t what, size_t size, void *value, size_t *needed) {
  static const char log[] = "line 1 is wrong";
  (void)p, (void)id, (void)what;
  if (needed) *needed = sizeof log;
  if (value) memcpy(value, log, size < sizeof log ? size : sizeof log);
  return 0;
}
int clReleaseProgram(void *program) { return released(program); }
void *clCreateKernel(void *program, const char *name, int *code) {
  (void)program, (void)name;
  return made(1, code);
}
int clSetKernelArg(void *kernel, uint32_t n, size_t size, const void *value) {
  (void)kernel, (void)n, (void)size, (void)value;
  return failed() ? fails_with : 0;
}
int clReleaseKernel(void *kernel) { return released(kernel); }
void *clCreateBuffer(void *context, uint64_t flags, size_t size, void *from, int *code) {
  memory *m = made(sizeof *m, code);
  (void)context, (void)flags, (void)from;
  if (m) m->bytes = m->owned = malloc(size);
  return m;
}
void *clCreateSubBuffer(void *whole, uint64_t flags, uint32_t kind, const void *region, int *code) {
  memory *m = made(sizeof *m, code);
  (void)flags, (void)kind;
  if (m) m->bytes = ((memory *)whole)->bytes + ((const size_t *)region)[0];
  return m;
}
int clReleaseMemObject(void *buffer) {
  free(((memory *)buffer)->owned);
  return released(buffer);
}
int clEnqueueWriteBuffer(void *q, void *to, uint32_t w, size_t at, size_t size, const void *from,
                         uint32_t n, void *e, void *f) {
  (void)q, (void)w, (void)n, (void)e, (void)f;
  if (failed()) return fails_with;
  memcpy(((memory *)to)->bytes + at, from, size);
  return 0;
}
int clEnqueueReadBuffer(void *q, void *from, uint32_t w, size_t at, size_t size, void *to, uint32_t n,
                        void *e, void *f) {
  (void)q, (void)w, (void)n, (void)e, (void)f;
  if (failed()) return fails_with;
  memcpy(to, ((memory *)from)->bytes + at, size);
  return 0;
}
int clEnqueueNDRangeKernel(void *q, void *k, uint32_t d, const size_t *o, const size_t *all,
                           const size_t *group, uint32_t n, void *e, void *f) {
  (void)q, (void)k, (void)d, (void)o, (void)all, (void)group, (void)n, (void)e, (void)f;
  return failed() ? fails_with : 0;
}
int clFinish(void *queue) { return (void)queue, failed() ? fails_with : 0; }
