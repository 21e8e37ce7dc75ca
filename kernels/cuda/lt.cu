/* Opens cuBLASLt. This file and nccl.cu are the only ones that the emulator has others for. */
#include "lt.cuh"
#include <dlfcn.h>
#include <stdio.h>

bool lt_load(Lt *lt, char *why, size_t size) {
    void *library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen("libcublasLt.so", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why, size, "%s", dlerror());
        return false;
    }
#define LT_FIND(name)                                                                              \
    lt->name = (decltype(lt->name))dlsym(library, "cublasLt" #name);                               \
    if (!lt->name) {                                                                               \
        snprintf(why, size, "it has no cublasLt" #name);                                           \
        return false;                                                                              \
    }
    LT_FUNCTIONS(LT_FIND)
#undef LT_FIND
    if (lt->GetVersion() / 10000 != 13) {
        snprintf(why, size, "version %zu is not of CUDA 13", lt->GetVersion());
        return false;
    }
    return true;
}
