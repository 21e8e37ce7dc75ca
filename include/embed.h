/* Word embeddings: which words a model holds for alike, as cosines between the rows of its
 * embedding table. */
#pragma once
#include "model.h"
#include "tokenizer.h"
#include <stdio.h>

/* A model's table on the host. */
typedef struct Embedding {
    const Tokenizer *tokenizer;
    int64_t n, width; /* tokens, and numbers of each */
    float *vector;    /* (n, width) as trained */
    float *unit;      /* (n, width), each of length 1; a zero vector stays zero */
} Embedding;

/* Copies the table of a model whose weights are there. Fails on a model without one and on values
 * that are not finite. */
bool embed_open(Embedding *m, const Model *model, const Tokenizer *tokenizer, Error *e);
void embed_close(Embedding *m);

/* The cosine of the angle between two vectors; 0 if one of them is zero. */
double embed_cosine(const Embedding *m, int32_t a, int32_t b);

typedef struct EmbedHit {
    int32_t id;
    double cosine;
} EmbedHit;
/* The words that lie nearest to a direction (width numbers of any length), the n_without given ones
 * left out: at most `count` into `hits`, the nearest first, of equal ones the lower id. Returns how
 * many. */
int64_t embed_nearest(const Embedding *m, const double *direction, const int32_t *without,
                      int n_without, int64_t count, EmbedHit *hits);
/* a is to b as c is to what? The direction b - a + c of unit vectors (Mikolov and others 2013). */
void embed_analogy(const Embedding *m, int32_t a, int32_t b, int32_t c, double *direction);
/* Each word's mean cosine to the others; returns the place of the lowest, the word that does not
 * belong. n >= 3. */
int embed_odd(const Embedding *m, const int32_t *ids, int n, double *mean);

/* A map places n >= 3 words in two dimensions: on the two principal components of their unit
 * vectors, or by t-SNE (van der Maaten and Hinton 2008), whose time grows with n^2. */
typedef struct EmbedMap {
    bool tsne;
    double perplexity; /* of t-SNE: about as many neighbours count */
    const char *name;  /* the model's, for the title */
    bool arrows;       /* one from each first, third, ... word to the next */
} EmbedMap;
/* The map as an SVG. A label that would cover another one is left out, but shows where the pointer
 * rests on its dot. Returns how many labels there are. */
int64_t embed_draw_map(const Embedding *m, const int32_t *ids, int64_t n, const EmbedMap *map,
                       FILE *out);

/* The words' vectors, a line each, numbers parted by tabs; and their names, a line each, for
 * TensorBoard's projector. */
void embed_write_vectors(const Embedding *m, FILE *out);
void embed_write_names(const Embedding *m, FILE *out);
/* The text of a token as those and the results show it, on one line and what is no text escaped;
 * the caller frees it. */
char *embed_word(const Embedding *m, int32_t id);
