/* Opens NCCL. As with lt.cu, the emulator has another one. */
#include "nccl.cuh"
#include <dlfcn.h>
#include <stdio.h>

bool nccl_load(Nccl *nccl, char *why, size_t size) {
    void *const library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, size, "%s", dlerror());
        return false;
    }
#define NCCL_FIND(name)                                                                            \
    nccl->name = (decltype(nccl->name))dlsym(library, "nccl" #name);                               \
    if (!nccl->name) {                                                                             \
        snprintf(why, size, "it has no nccl" #name);                                               \
        return false;                                                                              \
    }
    NCCL_FUNCTIONS(NCCL_FIND)
#undef NCCL_FIND
    return true;
}
