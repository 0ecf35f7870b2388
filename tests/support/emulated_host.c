/* Runs libraries for another machine in its emulator, where every byte outside of their buffers is a
 * trap or a canary.
 *
 * Requests come on standard input until it ends:
 *
 *     LIBRARY NAME AT_END THREADS INPUTS OUTPUTS WEIGHTS ARENA_BYTES BYTES ...\n
 *
 * BYTES are those of each input and each output; the inputs' contents follow. Each buffer and the arena
 * lies in pages of its own between two that are not there, and ends (AT_END is 1) or begins where its
 * pages do. WEIGHTS is the offset in the library of a page that is not there, to see that it is not.
 *
 * Answers on standard output: the status of NAME_run and the number of bytes that changed without being
 * asked for, as text and a newline, then the outputs.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qcomp_pool.h"

#define MOST 128
#define CANARY 0xC5
#define FOUR(i) all[i], all[(i) + 1], all[(i) + 2], all[(i) + 3]
#define SIXTEEN(i) FOUR(i), FOUR((i) + 4), FOUR((i) + 8), FOUR((i) + 12)
#define SIXTY_FOUR(i) SIXTEEN(i), SIXTEEN((i) + 16), SIXTEEN((i) + 32), SIXTEEN((i) + 48)

typedef struct {
  uint8_t *pages, *bytes;
  size_t inner, size;
} buffer;

static void fail(const char *what) {
  perror(what);
  exit(9);
}

static buffer allocate(size_t size, int at_end) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  buffer b;
  b.size = size;
  b.inner = (size + page) / page * page;
  b.pages = mmap(NULL, b.inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b.pages == MAP_FAILED) fail("mmap");
  b.pages += page;
  if (mprotect(b.pages, b.inner, PROT_READ | PROT_WRITE) != 0) fail("mprotect");
  memset(b.pages, CANARY, b.inner);
  b.bytes = at_end ? b.pages + (b.inner - size) : b.pages;
  return b;
}

static unsigned long released(buffer b) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  unsigned long stray = 0;
  for (size_t i = 0; i < b.inner; i++) {
    if ((b.pages + i < b.bytes || b.pages + i >= b.bytes + b.size) && b.pages[i] != CANARY) stray++;
  }
  munmap(b.pages - page, b.inner + 2 * page);
  return stray;
}

/* Whether a page can't be read: the kernel says so instead of a trap. */
static int absent(const void *page) {
  int ends[2], gone;
  if (pipe(ends) != 0) fail("pipe");
  gone = write(ends[1], page, 1) != 1;
  close(ends[0]);
  close(ends[1]);
  return gone;
}

int main(void) {
  char path[2048], name[256], symbol[300];
  int at_end, threads, inputs, outputs;
  long weights;
  size_t arena_bytes;

  while (scanf("%2047s %255s %d %d %d %d %ld %zu", path, name, &at_end, &threads, &inputs, &outputs,
               &weights, &arena_bytes) == 8) {
    buffer buffers[MOST];
    uint8_t *given[MOST];
    void *all[MOST] = {0};
    unsigned long stray = 0;
    int status, (*run)(), count = inputs + outputs + 1;
    void (*share)(qcomp_parallel_for, void *);
    struct link_map *map;
    qcomp_pool *pool = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 9;
    }
    if (count > MOST) return 9;
    snprintf(symbol, sizeof symbol, "%s_run", name);
    *(void **)&run = dlsym(library, symbol);
    snprintf(symbol, sizeof symbol, "%s_set_parallel_for", name);
    *(void **)&share = dlsym(library, symbol);
    if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || run == NULL || share == NULL) return 9;
    if (weights && !absent((const char *)map->l_addr + weights)) {
      fprintf(stderr, "the page beside the weights is there\n");
      return 9;
    }
    for (int i = 0; i < count - 1; i++) {
      size_t size;
      if (scanf("%zu", &size) != 1) return 9;
      buffers[i] = allocate(size, at_end);
    }
    buffers[count - 1] = allocate(arena_bytes, at_end);
    memset(buffers[count - 1].bytes, 0xA5, arena_bytes);
    if (getchar() != '\n') return 9;
    for (int i = 0; i < count; i++) all[i] = buffers[i].bytes;
    for (int i = 0; i < inputs; i++) {
      const size_t size = buffers[i].size;
      given[i] = malloc(size + 1);
      if (given[i] == NULL || fread(given[i], 1, size, stdin) != size) return 9;
      memcpy(all[i], given[i], size);
    }
    for (int i = inputs; i < count - 1; i++) memset(all[i], 0x5A, buffers[i].size);
    if (threads > 1) {
      pool = qcomp_pool_create(threads);
      if (pool == NULL) fail("qcomp_pool_create");
      share(qcomp_pool_run, pool);
    }
    status = run(SIXTY_FOUR(0), SIXTY_FOUR(64)); /* callees leave alone what they do not take */
    qcomp_pool_destroy(pool);
    for (int i = 0; i < inputs; i++) {
      stray += memcmp(given[i], all[i], buffers[i].size) != 0;
      free(given[i]);
    }
    uint8_t *answers[MOST];
    for (int i = inputs; i < count - 1; i++) {
      answers[i] = malloc(buffers[i].size + 1);
      if (answers[i] == NULL) fail("malloc");
      memcpy(answers[i], all[i], buffers[i].size);
    }
    size_t sizes[MOST];
    for (int i = 0; i < count; i++) {
      sizes[i] = buffers[i].size;
      stray += released(buffers[i]);
    }
    printf("%d %lu\n", status, stray);
    for (int i = inputs; i < count - 1; i++) {
      fwrite(answers[i], 1, sizes[i], stdout);
      free(answers[i]);
    }
    fflush(stdout);
    dlclose(library);
  }
  return 0;
}
