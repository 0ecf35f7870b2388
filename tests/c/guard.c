/* Run a compiled network where every byte outside its buffers is a trap or a canary.
 *
 *     guard VECTORS ISA THREADS
 *
 * VECTORS holds, for each sample, the bytes of all inputs and then of all expected outputs. Each input,
 * each output and the arena lies in a mapping of its own between two PROT_NONE pages: in the first run
 * it ends where a page ends, in the second it begins where one begins; the rest of its pages is filled
 * with a canary. Then four threads run all samples at once, each on its own buffers.
 *
 * ISA is the number of an instruction set of the library, 0 for the best; THREADS above 1 share the
 * work of every run through qcomp_pool.c.
 *
 * under-guard.h, which the test generates, defines INPUTS, OUTPUTS, INPUT_BYTES, OUTPUT_BYTES,
 * ARENA_BYTES, ARENA_ALIGN, run_network(inputs, outputs, arena), set_isa(isa) and
 * set_parallel_for(function, user).
 *
 * Prints one JSON object; exit status 0 if and only if all bytes are as expected.
 */

#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qcomp_pool.h"
#include "under-guard.h"

#define CALLERS 4
#define CANARY 0xC5
#define BUFFERS (INPUTS + OUTPUTS + 1)

typedef enum { ENDS_AT_GUARD, BEGINS_AT_GUARD } placement;

typedef struct {
  uint8_t *pages; /* between the guard pages */
  size_t pages_size;
  uint8_t *bytes;
  size_t size;
} buffer;

typedef struct {
  const uint8_t *vectors;
  size_t samples;
  placement where;
  buffer buffers[BUFFERS]; /* inputs, outputs, arena */
  unsigned long differing_bits;
  unsigned long stray_writes; /* canaries and inputs that changed */
  unsigned long failures;     /* calls that did not return 0 */
} job;

static const size_t input_bytes[INPUTS] = INPUT_BYTES;
static const size_t output_bytes[OUTPUTS] = OUTPUT_BYTES;

static void fail(const char *what) {
  perror(what);
  exit(2);
}

static buffer allocate(size_t size, placement where) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t inner = (size + page - 1) / page * page;
  uint8_t *all = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  buffer b;

  if (all == MAP_FAILED) fail("mmap");
  b.pages = all + page;
  b.pages_size = inner;
  b.size = size;
  b.bytes = where == ENDS_AT_GUARD ? b.pages + (inner - size) : b.pages;
  if (inner != 0 && mprotect(b.pages, inner, PROT_READ | PROT_WRITE) != 0) fail("mprotect");
  if (inner != 0) memset(b.pages, CANARY, inner);
  return b;
}

static void release(buffer b) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  munmap(b.pages - page, b.pages_size + 2 * page);
}

static unsigned long stray_bytes(const buffer *b) {
  const uint8_t *const end = b->bytes + b->size;
  unsigned long count = 0;
  for (const uint8_t *p = b->pages; p < b->bytes; p++) count += *p != CANARY;
  for (const uint8_t *p = end; p < b->pages + b->pages_size; p++) count += *p != CANARY;
  return count;
}

static unsigned long bits_between(const uint8_t *a, const uint8_t *b, size_t size) {
  unsigned long count = 0;
  for (size_t i = 0; i < size; i++) {
    for (unsigned x = a[i] ^ b[i]; x != 0; x &= x - 1) count++;
  }
  return count;
}

static void run_sample(job *j, size_t sample) {
  const uint8_t *next = j->vectors + sample * SAMPLE_BYTES;
  const uint8_t *const given = next;
  void *inputs[INPUTS], *outputs[OUTPUTS];
  buffer *const arena = &j->buffers[INPUTS + OUTPUTS];

  for (int i = 0; i < INPUTS; i++) {
    inputs[i] = memcpy(j->buffers[i].bytes, next, input_bytes[i]);
    next += input_bytes[i];
  }
  for (int i = 0; i < OUTPUTS; i++) {
    outputs[i] = memset(j->buffers[INPUTS + i].bytes, (int)(0x5A ^ sample), output_bytes[i]);
  }
  memset(arena->bytes, (int)(0xA5 + sample), arena->size); /* nothing may live there between runs */
  if (run_network(inputs, outputs, arena->bytes) != 0) j->failures++;

  next = given;
  for (int i = 0; i < INPUTS; i++) {
    j->stray_writes += bits_between(inputs[i], next, input_bytes[i]) != 0;
    next += input_bytes[i];
  }
  for (int i = 0; i < OUTPUTS; i++) {
    j->differing_bits += bits_between(outputs[i], next, output_bytes[i]);
    next += output_bytes[i];
  }
}

static void *run_job(void *argument) {
  job *const j = argument;
  for (int i = 0; i < INPUTS; i++) j->buffers[i] = allocate(input_bytes[i], j->where);
  for (int i = 0; i < OUTPUTS; i++) j->buffers[INPUTS + i] = allocate(output_bytes[i], j->where);
  j->buffers[INPUTS + OUTPUTS] = allocate(ARENA_BYTES, j->where);
  if ((uintptr_t)j->buffers[INPUTS + OUTPUTS].bytes % ARENA_ALIGN != 0) {
    fprintf(stderr, "ARENA_BYTES is no multiple of ARENA_ALIGN\n");
    exit(2);
  }
  for (size_t s = 0; s < j->samples; s++) run_sample(j, s);
  for (int i = 0; i < BUFFERS; i++) {
    j->stray_writes += stray_bytes(&j->buffers[i]);
    release(j->buffers[i]);
  }
  return NULL;
}

static uint8_t *read_vectors(const char *path, size_t *samples) {
  FILE *file = fopen(path, "rb");
  long size;
  uint8_t *bytes;

  if (file == NULL) fail(path);
  if (fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) <= 0) fail(path);
  if ((size_t)size % SAMPLE_BYTES != 0) {
    fprintf(stderr, "%s: %ld bytes are not a whole number of samples\n", path, size);
    exit(2);
  }
  rewind(file);
  bytes = malloc((size_t)size);
  if (bytes == NULL || fread(bytes, 1, (size_t)size, file) != (size_t)size) fail(path);
  fclose(file);
  *samples = (size_t)size / SAMPLE_BYTES;
  return bytes;
}

static void add(job *total, const job *j) {
  total->differing_bits += j->differing_bits;
  total->stray_writes += j->stray_writes;
  total->failures += j->failures;
}

int main(int argc, char **argv) {
  job total, jobs[CALLERS];
  pthread_t callers[CALLERS];
  qcomp_pool *pool;
  size_t samples;
  uint8_t *vectors;
  int isa, threads;

  if (argc != 4) {
    fprintf(stderr, "usage: %s VECTORS ISA THREADS\n", argv[0]);
    return 2;
  }
  isa = atoi(argv[2]);
  threads = atoi(argv[3]);
  if (set_isa(isa) != 0) {
    fprintf(stderr, "this machine does not run instruction set %d\n", isa);
    return 2;
  }
  pool = threads > 1 ? qcomp_pool_create(threads) : NULL;
  if (threads > 1 && pool == NULL) fail("qcomp_pool_create");
  if (pool != NULL) set_parallel_for(qcomp_pool_run, pool);
  vectors = read_vectors(argv[1], &samples);
  memset(&total, 0, sizeof total);
  memset(jobs, 0, sizeof jobs);
  for (int i = 0; i < CALLERS; i++) {
    jobs[i].vectors = vectors;
    jobs[i].samples = samples;
    jobs[i].where = i % 2 == 0 ? ENDS_AT_GUARD : BEGINS_AT_GUARD;
  }
  for (int i = 0; i < 2; i++) { /* alone, at either end */
    job alone = jobs[i];
    run_job(&alone);
    add(&total, &alone);
  }
  for (int i = 0; i < CALLERS; i++) {
    if (pthread_create(&callers[i], NULL, run_job, &jobs[i]) != 0) fail("pthread_create");
  }
  for (int i = 0; i < CALLERS; i++) {
    pthread_join(callers[i], NULL);
    add(&total, &jobs[i]);
  }
  set_parallel_for(NULL, NULL);
  qcomp_pool_destroy(pool);
  printf("{\"samples\": %lu, \"runs\": %lu, \"callers\": %d, \"differing_bits\": %lu, "
         "\"stray_writes\": %lu, \"failures\": %lu}\n",
         (unsigned long)samples, (unsigned long)samples * (2 + CALLERS), CALLERS,
         total.differing_bits, total.stray_writes, total.failures);
  free(vectors);
  return total.differing_bits + total.stray_writes + total.failures != 0;
}
