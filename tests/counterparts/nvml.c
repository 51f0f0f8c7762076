/* A stand-in for the library of the NVIDIA driver: the calls that the agent makes, answered from a file.
 *
 * Compiled with STATE as the file's path. A line is a GPU: its UUID, the watts that its counter of energy grows by,
 * its power in watts; "-" for what it does not support. The word "unloaded" in place of all means that no driver
 * is loaded, "lost" that no GPU answers any more, "hang" that calls do not come back. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, UNLOADED = 9, LOST = 15 };
enum { GPUS_MAX = 16, LINE_MAX_BYTES = 256 };

struct gpu {
    char uuid[96], energy[32], power[32];
};

/* Reads the state; answers the number of GPUs, or a negative code. */
static int gpus(struct gpu *all) {
    FILE *file = fopen(STATE, "r");
    char line[LINE_MAX_BYTES];
    int count = 0;
    if (!file) {
        return -UNLOADED;
    }
    while (count < GPUS_MAX && fgets(line, sizeof line, file)) {
        struct gpu *gpu = &all[count];
        if (!strncmp(line, "unloaded", 8)) {
            fclose(file);
            return -UNLOADED;
        }
        if (!strncmp(line, "lost", 4)) {
            fclose(file);
            return -LOST;
        }
        if (!strncmp(line, "hang", 4)) {
            for (;;) {
                pause();
            }
        }
        if (sscanf(line, "%95s %31s %31s", gpu->uuid, gpu->energy, gpu->power) == 3) {
            count++;
        }
    }
    fclose(file);
    return count;
}

static int one(void *device, struct gpu *gpu) {
    struct gpu all[GPUS_MAX];
    long index = (long)device - 1;
    int count = gpus(all);
    if (count < 0) {
        return -count;
    }
    if (index < 0 || index >= count) {
        return INVALID;
    }
    *gpu = all[index];
    return OK;
}

int nvmlInit_v2(void) {
    struct gpu all[GPUS_MAX];
    int count = gpus(all);
    return count < 0 ? -count : OK;
}

int nvmlShutdown(void) { return OK; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    struct gpu all[GPUS_MAX];
    int found = gpus(all);
    if (found < 0) {
        return -found;
    }
    *count = (unsigned)found;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)((long)index + 1);
    return OK;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    struct gpu gpu;
    int code = one(device, &gpu);
    if (code == OK) {
        snprintf(uuid, length, "%s", gpu.uuid);
    }
    return code;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    struct timespec now;
    struct gpu gpu;
    int code = one(device, &gpu);
    if (code != OK) {
        return code;
    }
    if (!strcmp(gpu.energy, "-")) {
        return UNSUPPORTED;
    }
    clock_gettime(CLOCK_BOOTTIME, &now);
    /* A watt for a millisecond is a millijoule. */
    unsigned long long milliseconds = now.tv_sec * 1000ull + now.tv_nsec / 1000000;
    *millijoules = strtoull(gpu.energy, 0, 10) * milliseconds;
    return OK;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    struct gpu gpu;
    int code = one(device, &gpu);
    if (code != OK) {
        return code;
    }
    if (!strcmp(gpu.power, "-")) {
        return UNSUPPORTED;
    }
    *milliwatts = (unsigned)strtoul(gpu.power, 0, 10) * 1000;
    return OK;
}
