/* The pool under load: every item is done once, whoever calls it. Prints what went wrong. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcomp_pool.h"

enum { CALLERS = 3, LARGEST = 200, INNER = 10 };

typedef struct {
  qcomp_pool *pool;
  unsigned char done[LARGEST];
  int nested;
} job;

static void inner(void *context, int32_t begin, int32_t end) {
  unsigned char *const done = context;
  for (int32_t i = begin; i < end; i++) done[i]++;
}

static void task(void *context, int32_t begin, int32_t end) {
  job *const j = context;
  for (int32_t i = begin; i < end; i++) {
    j->done[i]++;
    if (j->nested) {
      unsigned char done[INNER] = {0};
      qcomp_pool_run(j->pool, inner, done, INNER);
      for (int k = 0; k < INNER; k++)
        if (done[k] != 1) j->done[i] = 99;
    }
  }
}

static int rounds, idle;

static void *caller(void *argument) {
  qcomp_pool *const pool = argument;
  long wrong = 0;
  for (int round = 0; round < rounds; round++) {
    job j = {pool, {0}, round % 7 == 0};
    const int32_t count = round % (LARGEST + 1);
    qcomp_pool_run(pool, task, &j, count);
    for (int32_t i = 0; i < LARGEST; i++) wrong += j.done[i] != (i < count);
    if (idle && round % 50 == 0) { /* long enough for the threads to fall asleep */
      volatile long spin = 0;
      while (spin < 3000000) spin++;
    }
  }
  return wrong ? argument : NULL;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  rounds = atoi(argv[2]);
  idle = atoi(argv[3]);
  if (qcomp_pool_create(0) != NULL) return puts("a pool of no threads"), 1;
  qcomp_pool_destroy(NULL);
  qcomp_pool *const pool = qcomp_pool_create(atoi(argv[1]));
  if (!pool) return puts("no pool"), 1;
  if (caller(pool)) return puts("one caller: items missed or repeated"), 1;
  pthread_t callers[CALLERS];
  int failed = 0;
  for (int i = 0; i < CALLERS; i++)
    if (pthread_create(&callers[i], NULL, caller, pool)) return 2;
  for (int i = 0; i < CALLERS; i++) {
    void *result;
    pthread_join(callers[i], &result);
    failed |= result != NULL;
  }
  qcomp_pool_destroy(pool);
  for (int i = 0; i < 50; i++) qcomp_pool_destroy(qcomp_pool_create(1 + i % 4));
  if (failed) return puts("several callers: items missed or repeated"), 1;
  return 0;
}
