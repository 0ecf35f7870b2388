"""The thread pool in C: clean under every warning and sanitizer, and every item is done once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import qcomp
from qcomp.targets.cpu.process.threads import pool_sources

HERE = Path(__file__).resolve().parent
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wundef"]
SANITIZERS = {
    "plain": ["-O2"],
    "threads": ["-O1", "-g", "-fsanitize=thread"],
    "addresses": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name, content in pool_sources().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("standard", ["c11", "c17"])
def test_the_pool_is_clean_c(standard: str, pool: Path, cc: str) -> None:
    command = [cc, f"-std={standard}", *WARNINGS, "-fsyntax-only", "qcomp_pool.c"]
    subprocess.run(command, cwd=pool, check=True)


@pytest.mark.parametrize(("compiler", "standard"), [("cc", "c99"), ("c++", "c++98")])
def test_its_header_goes_with_that_of_a_network(
    compiler: str, standard: str, pool: Path, digits: Path
) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    suffix = "c" if compiler == "cc" else "cpp"
    source = pool / f"main.{suffix}"
    for first, second in (("digits", "qcomp_pool"), ("qcomp_pool", "digits")):
        source.write_text(
            f'#include "{first}.h"\n#include "{second}.h"\nint main(void) {{ return 0; }}'
        )
        flags = [f"-std={standard}", *WARNINGS, "-Wno-long-long", f"-I{digits}"]
        subprocess.run([compiler, *flags, "-fsyntax-only", source], check=True)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_item_is_done_once(sanitizer: str, threads: int, pool: Path, cc: str) -> None:
    """By one caller and by several, from inside of tasks, spinning and woken from sleep."""
    sources = [HERE / "pool_stress.c", "qcomp_pool.c", "-I.", "-o", "stress", "-pthread"]
    command = [cc, "-std=c11", *SANITIZERS[sanitizer], *sources]
    built = subprocess.run(command, cwd=pool, capture_output=True, text=True)
    if built.returncode != 0 and sanitizer != "plain" and "san" in built.stderr:
        pytest.skip(f"no sanitizer of {sanitizer}")
    assert built.returncode == 0, built.stderr
    for rounds, idle in (("2000", "0"), ("300", "1")):
        done = subprocess.run(
            [pool / "stress", str(threads), rounds, idle], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


MAIN = r"""
#include <stdio.h>
#include "digits.h"
#include "qcomp_pool.h"
static _Alignas(DIGITS_ARENA_ALIGN) unsigned char arena[DIGITS_ARENA_BYTES];
int main(void) {
  static int8_t input[DIGITS_INPUT0_SIZE], output[DIGITS_OUTPUT0_SIZE];
  qcomp_pool *pool = qcomp_pool_create(2);
  if (!pool) return 2;
  digits_set_parallel_for(qcomp_pool_run, pool);
  while (fread(input, sizeof input, 1, stdin) == 1) {
    if (digits_run(input, output, arena) != QCOMP_OK) return 4;
    fwrite(output, sizeof output, 1, stdout);
  }
  digits_set_parallel_for(0, 0);
  qcomp_pool_destroy(pool);
  return 0;
}
"""


def test_a_c_program_runs_a_network_on_the_pool(pool: Path, digits: Path, cc: str) -> None:
    (pool / "main.c").write_text(MAIN)
    flags = ["-std=c11", *WARNINGS, *SANITIZERS["addresses"], f"-I{digits}"]
    files = ["main.c", "qcomp_pool.c", digits / "libdigits.a", "-o", "main", "-pthread"]
    if subprocess.run([cc, *flags, *files], cwd=pool, capture_output=True).returncode != 0:
        subprocess.run([cc, "-std=c11", *WARNINGS, f"-I{digits}", *files], cwd=pool, check=True)
    q = np.random.default_rng(1).integers(-128, 128, (50, 1, 8, 8), np.int8)
    done = subprocess.run([pool / "main"], input=q.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == qcomp.load(digits).specification_integer(q).tobytes()


HOST = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>
#include "qcomp_pool.h"
static atomic_int items, open_to_signals, elsewhere;
static pthread_t host;
static void task(void *context, int32_t begin, int32_t end) {
  sigset_t blocked;
  (void)context;
  atomic_fetch_add(&items, end - begin);
  usleep(1000);
  if (pthread_equal(host, pthread_self())) return;
  atomic_fetch_add(&elsewhere, 1);
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  if (!sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGALRM)) open_to_signals = 1;
}
int main(void) {
  int status = 0;
  sigset_t blocked;
  qcomp_pool *pool = qcomp_pool_create(3);
  host = pthread_self();
  pthread_sigmask(SIG_BLOCK, NULL, &blocked);
  if (sigismember(&blocked, SIGTERM)) return 1;
  for (int i = 0; i < 100 && !elsewhere; i++) qcomp_pool_run(pool, task, NULL, 30);
  if (!elsewhere || open_to_signals || items % 30) return 2;
  pid_t child = fork();
  if (child == 0) {
    items = 0;
    alarm(20);
    qcomp_pool_run(pool, task, NULL, 30);
    qcomp_pool_destroy(pool);
    _exit(items == 30 ? 0 : 3);
  }
  if (waitpid(child, &status, 0) != child || status != 0) return 4;
  qcomp_pool_destroy(pool);
  return 0;
}
"""


def test_its_threads_take_no_signals_and_a_forked_child_needs_none(pool: Path, cc: str) -> None:
    (pool / "main.c").write_text(HOST)
    flags = ["-std=c11", *WARNINGS, "-O1", "main.c", "qcomp_pool.c", "-o", "main", "-pthread"]
    subprocess.run([cc, *flags], cwd=pool, check=True)
    done = subprocess.run([pool / "main"], timeout=60)
    assert done.returncode == 0
