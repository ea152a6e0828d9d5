/* nvdouble-state FOLDER [faults]: prints what all processes together did and hold, one line each:
 *
 *     call SYMBOL NUMBER
 *     total NAME NUMBER
 *     gauge NAME NUMBER
 *     device INDEX BYTES-TAKEN
 *     session PID DEVICE WIDTH HEIGHT FPS
 *     process PID NAME
 *
 * With `faults` it takes the file `faults` of the folder into use instead, for all processes at once, and fails with a sentence where it is wrong. */
#include "state.h"
#include <stdio.h>
#include <string.h>

static void print(const struct state *s)
{
    static struct dd_process_info processes[MAX_PROCESSES];
    static struct dd_session_info sessions[MAX_SESSIONS];
    int living = dd_processes(processes, MAX_PROCESSES), open = dd_sessions(-1, sessions, MAX_SESSIONS);
    for (int i = 0; i < MAX_SYMBOLS; i++)
        if (s->symbols[i].ready)
            printf("call %s %ld\n", s->symbols[i].name, s->symbols[i].calls);
    for (int t = 0; t < TOTALS; t++)
        printf("total %s %ld\n", dd_total_names[t], s->totals[t]);
    for (int g = 0; g < GAUGES; g++) {
        long sum = 0;
        for (int i = 0; i < living; i++)
            sum += processes[i].gauges[g];
        printf("gauge %s %ld\n", dd_gauge_names[g], sum);
    }
    for (int d = 0; d < MAX_DEVICES; d++) {
        unsigned long long sum = 0;
        for (int i = 0; i < living; i++)
            sum += processes[i].vram[d];
        printf("device %d %llu\n", d, sum);
    }
    for (int i = 0; i < open; i++)
        printf("session %d %d %u %u %u\n", sessions[i].pid, sessions[i].device, sessions[i].width, sessions[i].height, sessions[i].fps);
    for (int i = 0; i < living; i++)
        printf("process %d %s\n", processes[i].pid, processes[i].name);
}

int main(int count, char **arguments)
{
    if (count < 2) {
        fputs("usage: nvdouble-state FOLDER [faults]\n", stderr);
        return 2;
    }
    const struct state *s = dd_state_open(arguments[1], false);
    const char *wrong = dd_load_faults();
    if (wrong) {
        fprintf(stderr, "nvdouble-state: %s/faults: %s\n", arguments[1], wrong);
        return 1;
    }
    if (count < 3 || strcmp(arguments[2], "faults"))
        print(s);
    return 0;
}
