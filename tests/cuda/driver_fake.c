/* Stands in for NVIDIA's driver, libcuda.so.1, on a machine without a card. FAKE_DRIVER in the
 * environment is the newest CUDA that it supports: 13000 is 13.0. */
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NO_DEVICE = 100 };

static int driver_version(int *version) {
    const char *text = getenv("FAKE_DRIVER");
    *version = text ? atoi(text) : 0;
    return SUCCESS;
}

/* Everything else. */
static int no_device(void) { return NO_DEVICE; }

/* The two names that CUDA's runtime looks up in the library; it gets all others from them. */
int cuGetProcAddress(const char *name, void **function, int version, unsigned long flags);
int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long flags,
                        void *status);

int cuGetProcAddress_v2(const char *name, void **function, int version, unsigned long flags,
                        void *status) {
    (void)version, (void)flags, (void)status;
    *function = !strcmp(name, "cuDriverGetVersion") ? (void *)driver_version
                : !strcmp(name, "cuGetProcAddress") ? (void *)cuGetProcAddress_v2
                                                    : (void *)no_device;
    return SUCCESS;
}

int cuGetProcAddress(const char *name, void **function, int version, unsigned long flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
