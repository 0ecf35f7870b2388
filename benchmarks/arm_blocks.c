/* A plugin of qemu (API version 1) for arm_cycles.py: which blocks of instructions a program runs.
 *
 *     -plugin libarm_blocks.so,functions=FILE,window=N,out=FILE
 *
 * The lines of `functions` are "begin end first...": addresses, and which of the blocks that run
 * there begin a window of N instructions. The lines of `out` are "function c blocks instructions"
 * for each function, then "function w address instructions" for each block of its windows. */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t,
    void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *,
    void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { MOST_FUNCTIONS = 4096, MOST_WINDOWS = 16 };

typedef struct {
    uint64_t begin, end, first[MOST_WINDOWS];
    size_t windows, next;
    uint64_t blocks, instructions, open; /* open: instructions that the window still takes */
} function_t;

typedef struct { size_t function; uint64_t address, instructions; } block_t;

static function_t functions[MOST_FUNCTIONS];
static size_t count;
static uint64_t window;
static FILE *out;

static void executed(unsigned cpu, void *data) {
    (void)cpu;
    const block_t *block = data;
    function_t *f = &functions[block->function];
    if (f->next < f->windows && f->blocks >= f->first[f->next]) {
        f->next++;
        f->open = window;
    }
    if (f->open) {
        fprintf(out, "%zu w %" PRIx64 " %" PRIu64 "\n",
            block->function, block->address, block->instructions);
        f->open = f->open > block->instructions ? f->open - block->instructions : 0;
    }
    f->blocks++;
    f->instructions += block->instructions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    for (size_t n = 0; n < count; n++) {
        if (address < functions[n].begin || address >= functions[n].end) continue;
        block_t *block = malloc(sizeof *block);
        *block = (block_t){n, address, qemu_plugin_tb_n_insns(tb)};
        qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, block);
    }
}

static void finished(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    for (size_t n = 0; n < count; n++)
        fprintf(out, "%zu c %" PRIu64 " %" PRIu64 "\n",
            n, functions[n].blocks, functions[n].instructions);
    fclose(out);
}

static void read_functions(const char *path) {
    FILE *file = fopen(path, "r");
    char line[1024];
    while (file && count < MOST_FUNCTIONS && fgets(line, sizeof line, file)) {
        function_t *f = &functions[count++];
        char *rest = line;
        f->begin = strtoull(rest, &rest, 16);
        f->end = strtoull(rest, &rest, 16);
        for (char *after; f->windows < MOST_WINDOWS; rest = after) {
            uint64_t first = strtoull(rest, &after, 10);
            if (after == rest) break;
            f->first[f->windows++] = first;
        }
    }
    if (file) fclose(file);
}

EXPORT int qemu_plugin_install(
    qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value) return 1;
        value++;
        if (!strncmp(argv[i], "functions=", 10)) read_functions(value);
        else if (!strncmp(argv[i], "window=", 7)) window = strtoull(value, NULL, 10);
        else if (!strncmp(argv[i], "out=", 4)) out = fopen(value, "w");
        else return 1;
    }
    if (!out || !count) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
