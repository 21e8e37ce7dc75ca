/* One call of one op, its operands in host memory as doubles: made from a case, run on any back end
 * or by the plain loops of reference.c, and compared. */
#pragma once
#include "cases.h"

typedef enum OperandType { OPERAND_ACT, OPERAND_MASTER, OPERAND_INT } OperandType;
typedef enum OperandUse { USE_IN = 1, USE_OUT = 2, USE_ADD = 3 } OperandUse; /* read, =, += */

typedef struct Operand {
    const char *name; /* in ops.h */
    OperandType type;
    OperandUse use;
    int rank;
    int64_t dim[TENSOR_MAX_RANK];
    double *value; /* NULL: absent */
    int shares;    /* the operand whose memory it is given, or -1 */
} Operand;

enum { MAX_OPERANDS = 12, N_GRADS = 4 /* tensors of grad_norm */ };

typedef struct Call {
    OpCase c;
    DType act, master; /* what the values are rounded to */
    int n_operands;
    Operand operand[MAX_OPERANDS];
    StepParams params;
    StepResult result; /* in and out */
    Dropout drop;
    double eps;
    Rotation rotation;
    AdamW adamw;
    Muon muon;
} Call;

/* ---- inputs.c ---- */

/* Random inputs, rounded to the back end's types so that a reference sees the same ones; saved
 * statistics (mean, lse, ...) are those of the random inputs. Outputs are NaN. An operand's values
 * depend on its name, its shape and the case alone: calls of two ops agree where names agree. */
void call_make(Call *call, const OpCase *c, DType act, DType master);
void call_free(Call *call);
/* Copies operands and results. */
void call_copy(Call *to, const Call *from);

/* NULL if the case does not have it. */
Operand *call_find(Call *call, const char *name);
double *call_value(Call *call, const char *name);
int64_t operand_count(const Operand *o);
double value_round(double value, DType type);
/* Uniform in [0, n), a function of the call's seed, the use's name and i. */
int64_t call_random(const Call *call, const char *use, int64_t i, int64_t n);

/* ---- exact.c ---- */

/* The same with small integers whose results have one right answer in any order of summation; false
 * if the shape has none. May change rates and constants of the case. */
bool call_make_exact(Call *call, const OpCase *c, DType act, DType master);

/* ---- reference.c ---- */

/* Outputs from the formulas of ops.h, in double, by plain loops. */
void call_reference(Call *call);
/* ops.h, Dropout: mask(index) */
double call_mask(const Call *call, int64_t index);

/* ---- driver.c ---- */

/* Outputs from the back end. Also checks that inputs stay as they are, and that nothing is written
 * beyond an operand or beyond the scratch that was asked for. */
void call_run(Call *call, Backend *backend);
/* The largest |got - want| / |want| (norms) of an output or of a result; `where` names it. Infinite
 * where one of them is not finite. */
double call_error(const Call *got, const Call *want, const char **where);
/* The same bits in every output. */
bool call_same_bits(const Call *a, const Call *b, const char **where);
/* What rounding may do to an output of the case, in the sense of call_error. */
double call_tolerance(const Call *call);
/* The largest error of an output or of a result by its own bound, which is far smaller for an f32
 * output that never was bf16. At most 1 if all is well. */
double call_excess(const Call *got, const Call *want, const char **where);

/* One rank's HostServices. */
HostServices driver_host(int n_threads);
/* Builds of the cpu ops beside those of CpuBuild: the one that this processor gets, and the double
 * twin. */
enum { CPU_BEST = -1, CPU_F64 = CPU_TILES + 1 };
/* Opens the cpu back end or stops. */
void driver_open_cpu(Backend *backend, int build, int n_threads);
/* Opens the plugin of a device (emu, cuda: libpuck_NAME.so beside the program that the variable
 * PUCK names, or in the working folder; or a path) to compute in f32 or bf16, or stops. */
void driver_open_device(Backend *backend, const char *device, const char *dtype);
bool driver_is_emulator(const Backend *backend);
/* The shapes of the recipes are there to be timed. The emulator would take minutes for them, and
 * each of their branches is in a smaller case too. */
bool driver_has_time_for(const Backend *backend, const OpCase *c);
/* Prints how many cases every op had and, if `worst` is not NULL, its largest error by the bound.
 * False if an op that `wants` names had none; wants NULL: every op. */
bool driver_covers(const int counts[OP_KINDS], const double worst[OP_KINDS],
                   bool (*wants)(OpKind));
/* Stops if an op wants less scratch for more rows: a plan asks for the most rows that its passes
 * have, and calls with fewer share what it got. */
void driver_check_scratch(const Backend *backend);
