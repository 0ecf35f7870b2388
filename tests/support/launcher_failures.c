/* Opens, runs and closes a network while its driver fails at each of its calls in turn: a status
   and a message each time, nothing left alive, and no more calls once one has failed to open. */

#include <stdio.h>
#include <stdlib.h>

#include "net.h"

void fake_fails(long at, int code);
long fake_calls(void);
long fake_live(void);

static _Alignas(64) unsigned char arena[NET_ARENA_BYTES], other[NET_ARENA_BYTES];

#define EXPECT(condition) \
  if (!(condition)) return fprintf(stderr, "%s, line %d, call %ld\n", #condition, __LINE__, at), 1

static int run(void *in) { RUN }

int main(void) {
  static const int codes[] = {-4, -5, -6, -11, -36};
  long at = 0, refused[10] = {0}, opening;
  EXPECT(run(arena) == QCOMP_NOT_OPEN);
  EXPECT(net_run_on(0, 0, arena) == QCOMP_NOT_OPEN);
  EXPECT(net_open(arena + 1, 0) == QCOMP_BAD_ARENA);
  EXPECT(net_open(0, 0) == QCOMP_BAD_ARENA);
  EXPECT(net_open_in(arena, 0, 0) == QCOMP_NO_DEVICE);
  EXPECT(net_open(arena, "another chip") == QCOMP_NO_DEVICE);
  EXPECT(net_open(arena, "Fake platform") == QCOMP_OK);
  EXPECT(net_open(arena, 0) == QCOMP_OPEN_ALREADY);
  EXPECT(net_open(other, "Fake chip") == QCOMP_OK);
  net_close(arena);
  EXPECT(run(arena) == QCOMP_NOT_OPEN);
  EXPECT(run(other) == QCOMP_OK);
  net_close(other);
  net_close(other);
  EXPECT(fake_live() == 0);
  for (size_t c = 0; c < sizeof codes / sizeof *codes; c++)
    for (at = 1;; at++) {
      fake_fails(at, codes[c]);
      int status = net_open(arena, 0);
      opening = fake_calls();
      if (status) {
        EXPECT(run(arena) == QCOMP_NOT_OPEN && fake_live() == 0);
      } else {
        status = run(arena);
      }
      if (fake_calls() < at) { /* there is no call of that number */
        net_close(arena);
        break;
      }
      EXPECT(status >= QCOMP_NO_DRIVER && status <= QCOMP_DEVICE_FAILED);
      EXPECT(*net_message(arena));
      refused[status]++;
      fake_fails(0, 0);
      if (opening < at) EXPECT(run(arena) == QCOMP_OK); /* one failure is not the end */
      net_close(arena);
      EXPECT(fake_live() == 0);
    }
  net_close(arena);
  EXPECT(fake_live() == 0);
  for (int n = QCOMP_NO_DEVICE; n <= QCOMP_DEVICE_FAILED; n++) printf("%d %ld\n", n, refused[n]);
  return 0;
}
