/* The parts of a training run, private to host/train.
 *
 *   run.c       from the start to the end of a run: folders, model, resume
 *   data.c      the tokens that it learns from
 *   settings.c  which settings go together, and with those of a resumed run
 *   setup.c     settings -> model and recipe
 *   loop.c      the steps
 *   together.c  what ranks must agree on
 *   validate.c  the estimate of the validation loss, and samples
 *   metrics.c   metrics.jsonl, TensorBoard events, the progress line */
#pragma once
#include "classify.h"
#include "config.h"
#include "loader.h"
#include "schedule.h"
#include "train.h"

/* What the host keeps of a step until its result has come back, one step late. */
typedef struct StepRecord {
    int64_t step; /* the number it has after it is done, from 1 */
    double lr;
    int64_t n_valid;
    double time; /* when it had been handed to the device */
} StepRecord;

typedef struct Metrics {
    const char *run;
    int file; /* metrics.jsonl, appended */
    struct TfEvents *events;
    double flops_per_token;
    double peak_flops; /* 0: unknown */
    int64_t memory_bytes;
    double start, elapsed_before; /* wall time of the loop's start; seconds of earlier calls */
    double last_time;             /* of the last step that was reported */
    double paused;                /* since then: seconds of samples, saves, evaluations */
    int64_t last_tokens;          /* tokens by then */
    double tokens_per_sec;        /* between the last two reports */
    int64_t steps;                /* of the whole run */
} Metrics;

enum { RING = 2 }; /* steps in flight: one runs, one is being read */

typedef struct Trainer {
    Settings settings;
    const Options *options; /* &settings.options */
    const char *run, *text; /* --run; --data, or what was made of it */
    char pairs[OPTION_STRING_MAX + 16]; /* RUN/pairs.tsv, where --data is JSON lines */
    char data[1024]; /* folder with token shards */
    Backend backend;
    Model model;
    Tokenizer tokenizer;
    DataMeta meta;
    Tokens train, val;
    Labels labels; /* --task classify: the classes */
    LoaderConfig feed;
    LoaderWords *words; /* skipgram: those of `train` */
    Loader *loader;
    void *loader_memory;
    int64_t n_micro; /* micro-batches a step */
    Schedule schedule;
    Optimiser optimiser;
    TrainState state;
    Metrics metrics;

    /* Pinned; a slot is reused only after its event. */
    StepParams *params;  /* n_micro * RING */
    StepResult *results; /* RING */
    Event *fed;          /* the batch has left its slot */
    Event *done[RING];   /* the step's result has arrived */
    StepRecord pending;  /* step 0: none */
    bool chosen;         /* train_choices was called */

    void *val_memory; /* one batch, for the estimate */
    int64_t last_saved;
    SampleText sample;
} Trainer;

/* The checkpoint that the run goes on from, or the one that --init-from names; neither of a new
 * model. */
typedef struct Start {
    char folder[1024];
    bool resumes, finetunes;
} Start;

/* data.c. Tokenizes a text into RUN/data, on rank 0 alone, and opens what lies there, or in the
 * folder that --data names. */
bool data_prepare(Trainer *t, const Start *start, Error *e);
/* Whether the tokens suit the checkpoint at the start, and the evaluations that were asked for. */
bool data_check(const Trainer *t, const Start *start, Error *e);
/* --task classify or pairs, once the model is made: finds the texts, or the pairs, each of which
 * must fit the context. */
bool data_find_lines(Trainer *t, Error *e);
/* For --dry-run: of a text only the labels and, where the options leave it open, the vocabulary;
 * nothing is written. */
bool data_survey(Trainer *t, const Start *start, Error *e);

/* settings.c. Settings that were given must agree with those that `folder` records, as their kind
 * demands; those that were not given are taken from the record. */
bool settings_merge_recorded(Settings *s, const char *folder, Error *e);
/* What no single option's range can say. */
bool settings_check(const Settings *s, Error *e);

/* setup.c. --task classify: the model's outputs are the labels. */
void setup_classes(const Trainer *t, ModelConfig *c);
/* The model of --init-from's folder; an option that says otherwise is an error. */
bool setup_config_from_folder(Trainer *t, const char *folder, ModelConfig *c, Error *e);
/* A classifier's weights from those of a model in `folder` that has other outputs: all but the
 * head, which begins anew. */
bool setup_transfer(Trainer *t, const char *folder, Error *e);
/* Fails, with what differs named, if `folder`'s model b is another than a. */
bool setup_same_config(const ModelConfig *a, const ModelConfig *b, const char *folder, Error *e);
void setup_schedule(Trainer *t);

/* together.c: nothing to do for one rank. Fails on all ranks, with the odd one named: */
bool together_options(const Trainer *t, Error *e); /* that was started with other options */
bool together_folder(const Trainer *t, Error *e);  /* that does not see or cannot write the run's */
/* ... whose weights are not rank 0's: every --compare-every steps. */
bool together_weights(Trainer *t, Error *e);

/* loop.c: runs until the last step, an early stop or a signal. */
bool trainer_loop(Trainer *t, int *exit_code, Error *e);
/* Whether all steps are done, or --patience has run out. */
bool trainer_is_finished(const Options *o, const TrainState *state);

/* validate.c: mean loss over --eval-batches fixed batches of the validation part, or over all of it
 * by the reported definition if that is less work. NaN if there is no validation part. */
double trainer_estimate(Trainer *t);
bool trainer_sample(Trainer *t, Error *e);      /* appends one text to samples.txt */
bool trainer_cut_samples(Trainer *t, Error *e); /* deletes those of steps beyond the state */

/* metrics.c. Opens RUN's files, and cuts what lies beyond the state. */
bool metrics_open(Metrics *m, const char *run, const TrainState *state, Error *e);
/* Reports a step; `tokens` were trained on by then. */
bool metrics_step(Metrics *m, const StepRecord *step, const StepResult *result, int64_t tokens,
                  Error *e);
bool metrics_eval(Metrics *m, int64_t step, double val_loss, Error *e);
/* Seconds of training, those of earlier calls included. */
double metrics_elapsed(const Metrics *m);
/* Makes what was written durable. */
void metrics_sync(Metrics *m);
void metrics_close(Metrics *m);
