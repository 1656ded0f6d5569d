#include "include/kernels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

struct ck_pool {
  pthread_mutex_t lock;  // of both conditions
  pthread_cond_t work, done;
  atomic_flag busy;      // one job at a time
  // The job's number above, the lanes that nobody has taken yet in the low 32 bits: a lane is taken
  // by one exchange of both, so that a late thread never takes one of another job by mistake.
  _Atomic uint64_t ticket;
  atomic_long pending;   // lanes that have not returned
  atomic_long sleepers;
  atomic_int waits;      // whether the caller sleeps
  atomic_long next;      // the piece that is run next
  long threads, pieces;
  void (*body)(void *, long, long);
  void *context;
};

static inline void rest(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// How often a thread looks before it sleeps: some 50 microseconds.
enum { looks = 2000 };

static int has_lanes(struct ck_pool *pool) {
  return (uint32_t)atomic_load(&pool->ticket) != 0;
}

static void take_lanes(struct ck_pool *pool) {
  uint64_t ticket = atomic_load(&pool->ticket);
  while ((uint32_t)ticket != 0) {
    if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1)) continue;
    // The job stays as it is until this lane has returned.
    long lane = (long)(uint32_t)ticket - 1;
    for (;;) {
      long piece = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
      if (piece >= pool->pieces) break;
      pool->body(pool->context, piece, lane);
    }
    if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->waits)) {
      pthread_mutex_lock(&pool->lock);
      pthread_cond_signal(&pool->done);
      pthread_mutex_unlock(&pool->lock);
    }
    ticket = atomic_load(&pool->ticket);
  }
}

static void *serve(void *argument) {
  struct ck_pool *pool = argument;
  for (;;) {
    for (int i = 0; i < looks && !has_lanes(pool); i++) rest();
    if (!has_lanes(pool)) {
      pthread_mutex_lock(&pool->lock);
      atomic_fetch_add(&pool->sleepers, 1);
      while (!has_lanes(pool)) pthread_cond_wait(&pool->work, &pool->lock);
      atomic_fetch_sub(&pool->sleepers, 1);
      pthread_mutex_unlock(&pool->lock);
    }
    take_lanes(pool);
  }
  return NULL;
}

struct ck_pool *ck_pool_make(long threads) {
  struct ck_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->work, NULL);
  pthread_cond_init(&pool->done, NULL);
  for (long i = 0; i < threads; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, pool) != 0) break;
    pthread_detach(thread);
    pool->threads++;
  }
  return pool;
}

void ck_pool_run(
  struct ck_pool *pool, long lanes, long pieces,
  void (*body)(void *context, long piece, long lane), void *context) {
  if (!pool || pool->threads == 0 || lanes < 2 || atomic_flag_test_and_set(&pool->busy)) {
    for (long piece = 0; piece < pieces; piece++) body(context, piece, 0);
    return;
  }
  pool->body = body;
  pool->context = context;
  pool->pieces = pieces;
  atomic_store(&pool->next, 0);
  atomic_store(&pool->pending, lanes);
  uint64_t job = (atomic_load(&pool->ticket) >> 32) + 1;
  atomic_store(&pool->ticket, job << 32 | (uint32_t)lanes);
  if (atomic_load(&pool->sleepers) > 0) {
    pthread_mutex_lock(&pool->lock);
    for (long i = 1; i < lanes; i++) pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
  }
  take_lanes(pool);
  for (int i = 0; i < looks && atomic_load(&pool->pending) > 0; i++) rest();
  if (atomic_load(&pool->pending) > 0) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->waits, 1);
    while (atomic_load(&pool->pending) > 0) pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->waits, 0);
    pthread_mutex_unlock(&pool->lock);
  }
  atomic_flag_clear(&pool->busy);
}
