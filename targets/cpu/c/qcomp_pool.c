/* See qcomp_pool.h. Threads claim ranges from a ticket; nobody waits for one that claims nothing,
   so a thread that the system has put aside delays a run by one range at most. */
#define _GNU_SOURCE
#include "qcomp_pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 64, SPINS = 6000 };

/* A counter that threads wait on to change. */
typedef struct {
  _Alignas(LINE) atomic_uint value;
  atomic_uint sleepers;
} event;

struct qcomp_pool {
  event begun; /* counts runs */
  event done;  /* items of this run that are finished */
  /* run << 32 | items that nobody has claimed. What a run is made of is written before its ticket
     and while none are left of the one before; a claim whose ticket has changed meanwhile fails. */
  _Alignas(LINE) _Atomic uint64_t ticket;
  _Atomic(qcomp_task) task;
  _Atomic(void *) context;
  atomic_uint count;
  _Alignas(LINE) atomic_flag busy;
  atomic_bool stop;
  uint32_t run;
  uint32_t threads; /* the caller is the last one */
  pthread_t workers[];
};

_Static_assert(sizeof(atomic_uint) == sizeof(uint32_t), "a futex is 32 bits");

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

/* The value, as soon as it is not `old`. */
static uint32_t event_wait(event *e, uint32_t old) {
  uint32_t value = old;
  for (int i = 0; i < SPINS; i++) {
    value = atomic_load_explicit(&e->value, memory_order_acquire);
    if (value != old) return value;
    pause_briefly();
  }
  atomic_fetch_add(&e->sleepers, 1);
  while ((value = atomic_load(&e->value)) == old)
    syscall(SYS_futex, &e->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
  atomic_fetch_sub(&e->sleepers, 1);
  return value;
}

static void event_add(event *e, uint32_t n) {
  atomic_fetch_add(&e->value, n);
  if (atomic_load(&e->sleepers)) syscall(SYS_futex, &e->value, FUTEX_WAKE_PRIVATE, INT_MAX);
}

/* Claims and does ranges of the run in progress until none is left; they become shorter. */
static void work(qcomp_pool *pool) {
  uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
  for (uint32_t left; (left = (uint32_t)ticket) != 0;) {
    const qcomp_task task = atomic_load_explicit(&pool->task, memory_order_relaxed);
    void *const context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    const uint32_t begin = atomic_load_explicit(&pool->count, memory_order_relaxed) - left;
    const uint32_t share = left / (2 * pool->threads);
    const uint32_t length = share ? share : 1;
    if (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket - length,
                                               memory_order_acq_rel, memory_order_acquire))
      continue;
    task(context, (int32_t)begin, (int32_t)(begin + length));
    event_add(&pool->done, length);
    ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire);
  }
}

static void *worker(void *argument) {
  qcomp_pool *const pool = argument;
  for (uint32_t seen = 0;;) {
    seen = event_wait(&pool->begun, seen);
    if (atomic_load(&pool->stop)) return NULL;
    work(pool);
  }
}

void qcomp_pool_run(void *user, qcomp_task task, void *context, int32_t count) {
  qcomp_pool *const pool = user;
  if (count <= 0) return;
  if (count == 1 || atomic_flag_test_and_set_explicit(&pool->busy, memory_order_acquire)) {
    task(context, 0, count);
    return;
  }
  atomic_store_explicit(&pool->task, task, memory_order_relaxed);
  atomic_store_explicit(&pool->context, context, memory_order_relaxed);
  atomic_store_explicit(&pool->count, (uint32_t)count, memory_order_relaxed);
  atomic_store_explicit(&pool->done.value, 0, memory_order_relaxed);
  const uint64_t ticket = (uint64_t)++pool->run << 32 | (uint32_t)count;
  atomic_store_explicit(&pool->ticket, ticket, memory_order_release);
  event_add(&pool->begun, 1);
  work(pool);
  uint32_t done = atomic_load_explicit(&pool->done.value, memory_order_acquire);
  while (done != (uint32_t)count) done = event_wait(&pool->done, done);
  atomic_flag_clear_explicit(&pool->busy, memory_order_release);
}

/* Ends the first `started` workers and frees the pool. */
static void end(qcomp_pool *pool, uint32_t started) {
  atomic_store(&pool->stop, 1);
  event_add(&pool->begun, 1);
  for (uint32_t i = 0; i < started; i++) pthread_join(pool->workers[i], NULL);
  free(pool);
}

qcomp_pool *qcomp_pool_create(int32_t threads) {
  if (threads < 1) return NULL;
  const size_t bytes = sizeof(qcomp_pool) + (size_t)threads * sizeof(pthread_t);
  qcomp_pool *const pool = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
  if (!pool) return NULL;
  *pool = (qcomp_pool){.busy = ATOMIC_FLAG_INIT, .threads = (uint32_t)threads};
  for (uint32_t i = 0; i + 1 < pool->threads; i++)
    if (pthread_create(&pool->workers[i], NULL, worker, pool)) {
      end(pool, i);
      return NULL;
    }
  return pool;
}

void qcomp_pool_destroy(qcomp_pool *pool) {
  if (pool) end(pool, pool->threads - 1);
}
