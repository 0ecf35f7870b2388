/* See qcomp_pool.h. Each thread has a part of the items, the same one in every run, so that it finds
   in its cache what it wrote there; it claims most of it, most of the rest, and so on, and then what
   others have not claimed. Nobody waits for a thread that claims nothing. */
#define _GNU_SOURCE
#include "qcomp_pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
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

/* A thread and its part of the items: run << 32 | items that nobody has claimed. What a run is made
   of is written before its tickets, when all items of the run before are done; so it belongs to the
   ticket of a claim that succeeds, and a claim whose ticket has changed meanwhile fails. */
typedef struct {
  _Alignas(LINE) _Atomic uint64_t ticket;
  pthread_t thread; /* of the caller: none */
  qcomp_pool *pool;
} part;

struct qcomp_pool {
  event begun; /* counts runs */
  event done;  /* items of this run that are finished */
  _Alignas(LINE) _Atomic(qcomp_task) task;
  _Atomic(void *) context;
  atomic_uint count;
  _Alignas(LINE) atomic_flag busy;
  atomic_bool stop;
  uint32_t run;
  uint32_t threads;
  pid_t process; /* a child that was forked later has none of the threads */
  part parts[]; /* the caller's is the first */
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

/* Where the part begins. */
static uint32_t part_begin(const qcomp_pool *pool, uint32_t index, uint32_t count) {
  return (uint32_t)((uint64_t)count * index / pool->threads);
}

/* Claims and does ranges of one part until none is left; the number of items done. */
static uint32_t work_on(qcomp_pool *pool, uint32_t index, uint32_t keep) {
  _Atomic uint64_t *const tickets = &pool->parts[index].ticket;
  uint64_t ticket = atomic_load_explicit(tickets, memory_order_acquire);
  uint32_t done = 0;
  for (uint32_t left; (left = (uint32_t)ticket) != 0;) {
    const qcomp_task task = atomic_load_explicit(&pool->task, memory_order_relaxed);
    void *const context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    const uint32_t count = atomic_load_explicit(&pool->count, memory_order_relaxed);
    const uint32_t length = left - left / keep;
    if (!atomic_compare_exchange_weak_explicit(tickets, &ticket, ticket - length,
                                               memory_order_acq_rel, memory_order_acquire))
      continue;
    const uint32_t begin = part_begin(pool, index + 1, count) - left;
    task(context, (int32_t)begin, (int32_t)(begin + length));
    done += length;
    ticket = atomic_load_explicit(tickets, memory_order_acquire);
  }
  return done;
}

/* A thread's part in a run: three quarters of what is left of its own, halves of the others'. */
static void work(qcomp_pool *pool, uint32_t own) {
  uint32_t done = work_on(pool, own, 4);
  for (uint32_t i = 1; i < pool->threads; i++) done += work_on(pool, (own + i) % pool->threads, 2);
  if (done) event_add(&pool->done, done);
}

static void *worker(void *argument) {
  part *const own = argument;
  qcomp_pool *const pool = own->pool;
  for (uint32_t seen = 0;;) {
    seen = event_wait(&pool->begun, seen);
    if (atomic_load(&pool->stop)) return NULL;
    work(pool, (uint32_t)(own - pool->parts));
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
  pool->run++;
  for (uint32_t i = 0; i < pool->threads; i++) {
    const uint32_t begin = part_begin(pool, i, (uint32_t)count);
    const uint32_t items = part_begin(pool, i + 1, (uint32_t)count) - begin;
    const uint64_t ticket = (uint64_t)pool->run << 32 | items;
    atomic_store_explicit(&pool->parts[i].ticket, ticket, memory_order_release);
  }
  event_add(&pool->begun, 1);
  work(pool, 0);
  uint32_t done = atomic_load_explicit(&pool->done.value, memory_order_acquire);
  while (done != (uint32_t)count) done = event_wait(&pool->done, done);
  atomic_flag_clear_explicit(&pool->busy, memory_order_release);
}

/* Ends the workers of the first `parts` parts and frees the pool. */
static void end(qcomp_pool *pool, uint32_t parts) {
  if (pool->process != getpid()) parts = 1;
  atomic_store(&pool->stop, 1);
  event_add(&pool->begun, 1);
  for (uint32_t i = 1; i < parts; i++) pthread_join(pool->parts[i].thread, NULL);
  free(pool);
}

qcomp_pool *qcomp_pool_create(int32_t threads) {
  if (threads < 1) return NULL;
  const size_t bytes = sizeof(qcomp_pool) + (size_t)threads * sizeof(part);
  qcomp_pool *const pool = aligned_alloc(LINE, bytes);
  if (!pool) return NULL;
  *pool = (qcomp_pool){
      .busy = ATOMIC_FLAG_INIT, .threads = (uint32_t)threads, .process = getpid()};
  for (uint32_t i = 0; i < pool->threads; i++) pool->parts[i] = (part){.pool = pool};
  sigset_t all, before; /* signals are for the threads of the host */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  uint32_t parts = 1;
  while (parts < pool->threads &&
         !pthread_create(&pool->parts[parts].thread, NULL, worker, &pool->parts[parts]))
    parts++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (parts == pool->threads) return pool;
  end(pool, parts);
  return NULL;
}

void qcomp_pool_destroy(qcomp_pool *pool) {
  if (pool) end(pool, pool->threads);
}
