/* A thread pool for NAME_set_parallel_for of networks that qcomp generated. Linux, C11, -pthread.

     qcomp_pool *pool = qcomp_pool_create(4);
     NAME_set_parallel_for(qcomp_pool_run, pool);
     ... NAME_run(...) ...
     NAME_set_parallel_for(0, 0);
     qcomp_pool_destroy(pool);

   One pool may serve several networks and several callers: while it is busy, further calls (of
   other threads, or from inside of a task) do all their work on the calling thread. */
#ifndef QCOMP_POOL_H
#define QCOMP_POOL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef QCOMP_PARALLEL_DEFINED
#define QCOMP_PARALLEL_DEFINED
/* A part of a kernel's work: its items [begin, end). */
typedef void (*qcomp_task)(void *context, int32_t begin, int32_t end);
/* Runs the task over disjoint ranges that cover [0, count), in any order, on any threads; returns
   when all are done. */
typedef void (*qcomp_parallel_for)(void *user, qcomp_task task, void *context, int32_t count);
#endif

typedef struct qcomp_pool qcomp_pool;

/* A pool of `threads` threads, the caller of each run among them; NULL where the system refuses.
   Threads that wait spin for about a tenth of a millisecond, then sleep. They take no signals. In a
   process that is forked later the pool works on the calling thread alone. */
qcomp_pool *qcomp_pool_create(int32_t threads);

/* Not while it runs something. NULL is accepted. */
void qcomp_pool_destroy(qcomp_pool *pool);

/* A qcomp_parallel_for; its user is the pool. */
void qcomp_pool_run(void *pool, qcomp_task task, void *context, int32_t count);

#ifdef __cplusplus
}
#endif

#endif
