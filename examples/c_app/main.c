/* Run the compiled digits network on int8 images from a file.
 *
 *     digits_app IMAGES.i8 LOGITS.i8
 *
 * reads images of DIGITS_INPUT0_SIZE bytes each, writes as many rows of DIGITS_OUTPUT0_SIZE bytes, and
 * prints the recognised digit of each image. The network itself needs no heap, no file and no clock;
 * those are this program's.
 */

#define _POSIX_C_SOURCE 200112L /* posix_memalign, clock_gettime */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "digits.h"

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int argmax(const int8_t *logits) {
  int best = 0;
  for (int i = 1; i < DIGITS_OUTPUT0_SIZE; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

/* 0, or the exit status of the program. */
static int run_all(FILE *images, FILE *answers, void *arena) {
  int8_t image[DIGITS_INPUT0_SIZE];
  int8_t logits[DIGITS_OUTPUT0_SIZE];
  long count = 0;
  double busy = 0;
  size_t got;

  while ((got = fread(image, 1, sizeof image, images)) == sizeof image) {
    const double start = seconds();
    const int status = digits_run(image, logits, arena);
    busy += seconds() - start;
    if (status != QCOMP_OK) {
      fprintf(stderr, "digits_run returned status %d\n", status);
      return 1;
    }
    if (fwrite(logits, 1, sizeof logits, answers) != sizeof logits) {
      perror("writing the logits");
      return 1;
    }
    printf("%d\n", argmax(logits));
    count++;
  }
  if (got != 0 || ferror(images) || count == 0) {
    fprintf(stderr, "expected a whole number of images, %d bytes each\n", DIGITS_INPUT0_SIZE);
    return 1;
  }
  fprintf(stderr, "%ld images, %.1f us each\n", count, 1e6 * busy / (double)count);
  return 0;
}

int main(int argc, char **argv) {
  void *arena = NULL;
  FILE *images, *answers;
  int status = 1;

  if (argc != 3) {
    fprintf(stderr, "usage: %s IMAGES.i8 LOGITS.i8\n", argv[0]);
    return 2;
  }
  if (posix_memalign(&arena, DIGITS_ARENA_ALIGN, DIGITS_ARENA_BYTES) != 0) {
    fprintf(stderr, "no memory for the arena\n");
    return 1;
  }
  images = fopen(argv[1], "rb");
  answers = fopen(argv[2], "wb");
  if (images == NULL || answers == NULL) {
    perror(images == NULL ? argv[1] : argv[2]);
  } else {
    status = run_all(images, answers, arena);
  }
  if (images != NULL) fclose(images);
  if (answers != NULL && fclose(answers) != 0) {
    perror(argv[2]);
    status = 1;
  }
  free(arena);
  return status;
}
