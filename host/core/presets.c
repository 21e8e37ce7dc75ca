/* Named sets of values. What a preset does not name keeps its default. */
#include "options.h"
#include <string.h>

typedef struct Preset {
    const char *name, *help;
    const char *values[40][2]; /* option, value; ends with NULL */
} Preset;

/* What the four sizes of GPT-2 share: half a million tokens a step and ten thousand million in all,
 * the schedule with which public trainers reproduce the smallest size. */
#define GPT2_SHARED                                                                                \
    {"context", "1024"}, {"vocab_size", "50257"}, {"bias", "true"}, {"dropout", "0"},              \
        {"steps", "19073"}, {"batch_size", "512"}, {"warmup", "700"}, {"min_lr", "0"},             \
        {"schedule", "cosine"}, {"beta1", "0.9"}, {"beta2", "0.95"}, {"weight_decay", "0.1"},      \
        {"clip", "1"}, {                                                                           \
        "save_every", "1000"                                                                       \
    }

/* The architecture of Hugging Face's NanoChat, and the optimisers it is trained with: no clipping
 * and no decay, as Muon's updates have one size whatever the gradient's. */
#define MODERN                                                                                     \
    {"positions", "rotary-reversed"}, {"norm", "rmsnorm-plain"}, {"embed_norm", "true"},           \
        {"qk_norm", "true"}, {"activation", "relu2"}, {"tie_embeddings", "false"},                 \
        {"softcap", "15"}, {"bias", "false"}, {"init", "modern"}, {"optimizer", "muon"},           \
        {"muon_momentum", "0.95"}, {"beta1", "0.8"}, {"beta2", "0.95"}, {"weight_decay", "0"},     \
        {"clip", "0"}, {"schedule", "wsd"}, {                                                      \
        "min_lr", "0"                                                                              \
    }

/* nanoGPT's two recipes, but for the order of the data: nanoGPT draws windows at random offsets
 * (--order random); visiting each window once an epoch ends about 0.01 nats lower. */
static const Preset presets[] = {
    {"shakespeare-cpu",
     "a minute on a CPU: 0.8M parameters, characters",
     {{"layers", "4"},
      {"heads", "4"},
      {"channels", "128"},
      {"context", "128"},
      MODERN,
      {"dropout", "0"},
      {"steps", "1500"},
      {"batch_size", "6"},
      {"lr", "0.005"},
      {"muon_lr", "0.03"},
      {"warmup", "10"},
      {"decay_fraction", "0.6"},
      {"eval_every", "250"},
      {"eval_batches", "20"}}},
    {"shakespeare-ffn",
     "a feed-forward model of 0.7M parameters, characters, for a CPU",
     {{"model", "ffn"},
      {"context", "12"},
      {"channels", "32"},
      {"layers", "2"},
      {"hidden", "640"},
      {"steps", "4000"},
      {"batch_size", "512"},
      {"lr", "0.002"},
      {"schedule", "wsd"},
      {"decay_fraction", "0.6"},
      {"warmup", "20"},
      {"weight_decay", "0.2"},
      {"eval_every", "500"},
      {"save_every", "1000"},
      {"eval_batches", "20"}}},
    {"shakespeare-rnn",
     "a recurrent model of 0.5M parameters, characters, for a CPU",
     {{"model", "rnn"},
      {"context", "64"},
      {"channels", "64"},
      {"layers", "2"},
      {"hidden", "384"},
      {"steps", "1500"},
      {"batch_size", "32"},
      {"optimizer", "muon"},
      {"lr", "0.004"},
      {"muon_lr", "0.02"},
      {"schedule", "wsd"},
      {"decay_fraction", "0.6"},
      {"warmup", "20"},
      {"weight_decay", "0"},
      {"eval_every", "250"},
      {"eval_batches", "20"}}},
    {"numbers",
     "pairs of data/numbers.py, numbers in words: 0.6M parameters, for a CPU",
     {{"task", "pairs"},
      {"layers", "3"},
      {"heads", "4"},
      {"channels", "128"},
      {"context", "72"},
      MODERN,
      {"dropout", "0"},
      {"val_fraction", "0.02"},
      {"steps", "3000"},
      {"batch_size", "16"},
      {"lr", "0.005"},
      {"muon_lr", "0.03"},
      {"warmup", "10"},
      {"decay_fraction", "0.6"},
      {"eval_every", "500"},
      {"save_every", "1000"},
      {"eval_batches", "20"}}},
    {"shakespeare-classify",
     "labels of speeches, see data/speeches.py: words, four at a time, for a CPU",
     {{"task", "classify"},
      {"model", "ffn"},
      {"tokenizer", "word"},
      {"min_count", "2"},
      {"context", "4"},
      {"channels", "64"},
      {"layers", "1"},
      {"hidden", "128"},
      {"dropout", "0.5"},
      {"val_fraction", "0.2"},
      {"steps", "1200"},
      {"batch_size", "512"},
      {"lr", "0.003"},
      {"schedule", "linear"},
      {"eval_every", "0"}}},
    {"shakespeare",
     "for a GPU: 10.7M parameters, characters",
     {{"layers", "6"},
      {"heads", "6"},
      {"channels", "384"},
      {"context", "256"},
      MODERN,
      {"dropout", "0.3"},
      {"steps", "1000"},
      {"batch_size", "64"},
      {"lr", "0.005"},
      {"muon_lr", "0.02"},
      {"warmup", "10"},
      {"decay_fraction", "0.6"},
      {"eval_every", "100"},
      {"eval_batches", "40"}}},
    {"shakespeare-cpu-gpt2",
     "nanoGPT's recipe for a CPU: 0.8M parameters, characters",
     {{"layers", "4"},
      {"heads", "4"},
      {"channels", "128"},
      {"context", "64"},
      {"bias", "false"},
      {"dropout", "0"},
      {"order", "shuffle"},
      {"steps", "2000"},
      {"batch_size", "12"},
      {"lr", "0.001"},
      {"min_lr", "0.0001"},
      {"warmup", "100"},
      {"schedule", "cosine"},
      {"beta2", "0.99"},
      {"weight_decay", "0.1"},
      {"clip", "1"},
      {"eval_every", "250"},
      {"eval_batches", "20"}}},
    {"shakespeare-gpt2",
     "nanoGPT's recipe for a GPU: 10.6M parameters, characters",
     {{"layers", "6"},
      {"heads", "6"},
      {"channels", "384"},
      {"context", "256"},
      {"bias", "false"},
      {"dropout", "0.2"},
      {"order", "shuffle"},
      {"steps", "5000"},
      {"batch_size", "64"},
      {"lr", "0.001"},
      {"min_lr", "0.0001"},
      {"warmup", "100"},
      {"schedule", "cosine"},
      {"beta2", "0.99"},
      {"weight_decay", "0.1"},
      {"clip", "1"},
      {"eval_every", "250"},
      {"eval_batches", "200"}}},
    {"modern-124m",
     "GPT-2's smallest size with today's blocks: 124M parameters and a lookup of 39M",
     {{"layers", "12"},
      {"heads", "12"},
      {"channels", "768"},
      {"context", "1024"},
      {"vocab_size", "50304"},
      MODERN,
      {"dropout", "0"},
      {"steps", "10000"},
      {"batch_size", "512"},
      {"micro_batch", "64"},
      {"lr", "0.003"},
      {"muon_lr", "0.02"},
      {"warmup", "100"},
      {"decay_fraction", "0.4"},
      {"save_every", "1000"}}},
    {"gpt2",
     "GPT-2's smallest size: 124M parameters",
     {{"layers", "12"},
      {"heads", "12"},
      {"channels", "768"},
      {"lr", "0.0006"},
      {"micro_batch", "64"},
      GPT2_SHARED}},
    {"gpt2-medium",
     "GPT-2, 355M parameters",
     {{"layers", "24"},
      {"heads", "16"},
      {"channels", "1024"},
      {"lr", "0.0003"},
      {"micro_batch", "32"},
      GPT2_SHARED}},
    {"gpt2-large",
     "GPT-2, 774M parameters",
     {{"layers", "36"},
      {"heads", "20"},
      {"channels", "1280"},
      {"lr", "0.00025"},
      {"micro_batch", "16"},
      GPT2_SHARED}},
    {"gpt2-xl",
     "GPT-2's largest size: 1558M parameters",
     {{"layers", "48"},
      {"heads", "25"},
      {"channels", "1600"},
      {"lr", "0.0002"},
      {"micro_batch", "8"},
      GPT2_SHARED}},
};

const char *preset_name(int number) {
    return number < COUNT_OF(presets) ? presets[number].name : NULL;
}

bool preset_apply(Settings *s, const char *name, Error *e) {
    for (int i = 0; i < COUNT_OF(presets); i++) {
        if (strcmp(presets[i].name, name) != 0) continue;
        for (int k = 0; presets[i].values[k][0]; k++) {
            const char *const *pair = presets[i].values[k];
            CHECK(options_set(s, pair[0], pair[1], FROM_PRESET, name, e), "%s: %s", name, e->text);
        }
        return true;
    }
    const char *names[COUNT_OF(presets) + 1] = {NULL};
    for (int i = 0; i < COUNT_OF(presets); i++) names[i] = presets[i].name;
    char quoted[OPTIONS_QUOTE_MAX], hint[OPTIONS_HINT_MAX];
    options_hint(hint, "", name, names, "`puck info` lists the presets");
    return error_misuse(e, "--preset", hint, "there is no preset \"%s\"",
                        options_quote(quoted, name));
}

void preset_list(FILE *out) {
    for (int i = 0; i < COUNT_OF(presets); i++)
        fprintf(out, "  %-22s %s\n", presets[i].name, presets[i].help);
}
