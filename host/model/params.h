/* Rows of the parameter table, for the passes of host/model. */
#pragma once
#include "model.h"

typedef enum ParamId {
    PARAM_WTE,
    PARAM_WPE,
    PARAM_LN1_W,
    PARAM_LN1_B,
    PARAM_QKV_W,
    PARAM_QKV_B,
    PARAM_PROJ_W,
    PARAM_PROJ_B,
    PARAM_LN2_W,
    PARAM_LN2_B,
    PARAM_FC_W,
    PARAM_FC_B,
    PARAM_FCPROJ_W,
    PARAM_FCPROJ_B,
    PARAM_LNF_W,
    PARAM_LNF_B
} ParamId;

/* Makes m->params, m->lookup from the table. */
void params_make(Model *m);

static inline const Param *param_find(const Model *m, ParamId id, int64_t layer) {
    return m->lookup[id * m->config.layers + layer];
}

/* The weight as products read it, and its gradient; none if the model has no such parameter. */
static inline Tensor param_weight(const Model *m, ParamId id, int64_t layer) {
    const Param *p = param_find(m, id, layer);
    if (!p) return TENSOR_NONE;
    return p->w_act.data ? p->w_act : p->w;
}
static inline Tensor param_grad(const Model *m, ParamId id, int64_t layer) {
    const Param *p = param_find(m, id, layer);
    return p ? p->grad : TENSOR_NONE;
}
