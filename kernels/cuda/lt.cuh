/* cuBLASLt as a table of functions, so that the library is opened only when it is wanted, and so
 * that the emulator can give its own. */
#pragma once
#include <cublasLt.h>
#include <stddef.h>

#define LT_FUNCTIONS(each)                                                                         \
    each(Create) each(Destroy) each(GetVersion) each(GetStatusString) each(Matmul)                 \
        each(MatmulAlgoCheck) each(MatmulAlgoGetHeuristic) each(MatmulDescCreate)                  \
            each(MatmulDescDestroy) each(MatmulDescSetAttribute) each(MatrixLayoutCreate)          \
                each(MatrixLayoutDestroy) each(MatrixLayoutSetAttribute)                           \
                    each(MatmulPreferenceCreate) each(MatmulPreferenceDestroy)                     \
                        each(MatmulPreferenceSetAttribute)

typedef struct Lt {
#define LT_MEMBER(name) decltype(&cublasLt##name) name;
    LT_FUNCTIONS(LT_MEMBER)
#undef LT_MEMBER
} Lt;

/* False with the reason (one clause) if there is no library, or a function is missing in it. */
bool lt_load(Lt *lt, char *why, size_t size);
