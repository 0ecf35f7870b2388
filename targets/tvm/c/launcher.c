/* What the launchers of all devices do: the static plan above is carried out on one of them.

   An arena holds the state of one context on a device, so several may be open at once. A device
   gives: device_open, device_buffer, device_region, device_kernel, device_write, device_read,
   device_launch, device_wait, device_close and the type device. Each int is a qcomp_status. */

typedef struct {
  uint64_t mark; /* of an open arena, with its address */
  device on;
  handle data, scratch;
  handle places[PLACES];
  char message[MESSAGE_BYTES];
} state;

typedef char the_state_fits_the_arena[sizeof(state) <= ARENA_BYTES ? 1 : -1];

#define MARK UINT64_C(0x71636f6d705f6f70)

static int is_open(const state *s) { return s->mark == (MARK ^ (uint64_t)(uintptr_t)s); }

static int is_arena(const void *arena) { return arena && (uintptr_t)arena % ARENA_ALIGN == 0; }

static int prepared(state *s) {
  int status;
  if (DATA_BYTES && (status = device_buffer(&s->on, &s->data, DATA_BYTES))) return status;
  if (DATA_BYTES && (status = device_write(&s->on, 0, s->data, NAME_data, DATA_BYTES)))
    return status;
  if (SCRATCH_BYTES && (status = device_buffer(&s->on, &s->scratch, SCRATCH_BYTES))) return status;
  for (size_t n = 0; n < PLACES; n++) {
    const place *p = &plan_places[n];
    if (p->kind == IN_DATA || p->kind == IN_SCRATCH)
      status = device_region(&s->on, &s->places[n], p->kind == IN_DATA ? s->data : s->scratch,
                             p->at, p->bytes);
    else
      status = device_buffer(&s->on, &s->places[n], p->bytes);
    if (status) return status;
  }
  for (size_t n = 0; n < LAUNCHES; n++)
    if ((status = device_kernel(&s->on, n, &plan_launches[n]))) return status;
  return device_wait(&s->on, 0);
}

static void released(state *s) {
  for (size_t n = 0; n < PLACES; n++) device_free(&s->on, s->places[n], plan_places[n].kind);
  device_free(&s->on, s->data, IN_ARGUMENTS);
  device_free(&s->on, s->scratch, IN_ARGUMENTS);
  device_close(&s->on);
  s->mark = 0;
}

static int opened(void *arena, const char *wanted, void *context, void *id) {
  state *s = (state *)arena;
  int status;
  if (!is_arena(arena)) return QCOMP_BAD_ARENA;
  if (is_open(s)) return QCOMP_OPEN_ALREADY;
  memset(s, 0, sizeof *s);
  s->on.message = s->message;
  status = device_open(&s->on, wanted, context, id);
  if (!status) status = prepared(s);
  if (status) {
    released(s);
    return status;
  }
  s->mark = MARK ^ (uint64_t)(uintptr_t)s;
  return QCOMP_OK;
}

int NAME_open(void *arena, const char *wanted) { return opened(arena, wanted, 0, 0); }

int NAME_open_in(void *arena, void *context, void *id) {
  return context ? opened(arena, 0, context, id) : QCOMP_NO_DEVICE;
}

void NAME_close(void *arena) {
  if (is_arena(arena) && is_open((state *)arena)) released((state *)arena);
}

const char *NAME_message(const void *arena) {
  return is_arena(arena) ? ((const state *)arena)->message : "";
}

/* The launches on buffers of the device, in the order of the plan's arguments. */
static int launched(state *s, void *queue, void *const *arguments) {
  handle bound[PLACES];
  int status = QCOMP_OK;
  for (size_t n = 0; n < PLACES; n++)
    bound[n] = plan_places[n].kind == IN_ARGUMENTS && arguments
                   ? (handle)(uintptr_t)arguments[plan_places[n].at]
                   : s->places[n];
  for (size_t n = 0; n < LAUNCHES && !status; n++)
    status = device_launch(&s->on, queue, n, &plan_launches[n], bound);
  return status;
}

int NAME_run_on(void *queue, void *const *arguments, void *arena) {
  state *s = (state *)arena;
  if (!is_arena(arena)) return QCOMP_BAD_ARENA;
  if (!is_open(s)) return QCOMP_NOT_OPEN;
  return launched(s, queue, arguments);
}

/* The least microseconds of each launch, of `runs` runs on whatever the buffers hold. */
int NAME_times(double *microseconds, int runs, void *arena) {
  state *s = (state *)arena;
  int status = QCOMP_OK;
  if (!is_arena(arena)) return QCOMP_BAD_ARENA;
  if (!is_open(s)) return QCOMP_NOT_OPEN;
  for (int r = 0; r < runs && !status; r++)
    for (size_t n = 0; n < LAUNCHES && !status; n++) {
      struct timespec began, ended;
      clock_gettime(CLOCK_MONOTONIC, &began);
      status = device_launch(&s->on, 0, n, &plan_launches[n], s->places);
      if (!status) status = device_wait(&s->on, 0);
      clock_gettime(CLOCK_MONOTONIC, &ended);
      double taken = 1e6 * (double)(ended.tv_sec - began.tv_sec) +
                     1e-3 * (double)(ended.tv_nsec - began.tv_nsec);
      if (!r || taken < microseconds[n]) microseconds[n] = taken;
    }
  return status;
}

static int run(const void *const *arguments, void *arena) {
  state *s = (state *)arena;
  int status = QCOMP_OK;
  if (!is_arena(arena)) return QCOMP_BAD_ARENA;
  if (!is_open(s)) return QCOMP_NOT_OPEN;
  for (size_t n = 0; n < PLACES && !status; n++)
    if (plan_places[n].kind == IN_ARGUMENTS && plan_places[n].at < INPUTS)
      status = device_write(&s->on, 0, s->places[n], arguments[plan_places[n].at],
                            plan_places[n].bytes);
  if (!status) status = launched(s, 0, 0);
  for (size_t n = 0; n < PLACES && !status; n++)
    if (plan_places[n].kind == IN_ARGUMENTS && plan_places[n].at >= INPUTS)
      status = device_read(&s->on, 0, s->places[n], (void *)(uintptr_t)arguments[plan_places[n].at],
                           plan_places[n].bytes);
  if (status) {
    device_wait(&s->on, 0); /* nothing may touch the caller's arrays later */
    return status;
  }
  return device_wait(&s->on, 0);
}
