/* A checkpoint ready for use: what subcommands that ask a model begin with. */
#pragma once
#include "checkpoint.h"
#include "examples.h"

typedef struct Loaded {
    char folder[1024]; /* the checkpoint that --from led to */
    ModelConfig config;
    Tokenizer tokenizer;
    Labels labels; /* of a classifier, else none */
    Backend backend;
    Model model;
} Loaded;

/* First what is small: the folder, its config and tokenizer, and the back end. */
bool load_open(Loaded *l, const Options *o, Error *e);
/* Then the weights, into a model planned for `use`. */
bool load_weights(Loaded *l, const ModelUse *use, Error *e);
/* The options that a checkpoint of a run was trained with; the defaults, where it has none. */
bool load_recorded(const Loaded *l, Settings *recorded, Error *e);
/* Who sits at a terminal is told what is read from there. */
void load_tell_stdin(const char *what);
/* Frees what there is. */
void load_close(Loaded *l);
