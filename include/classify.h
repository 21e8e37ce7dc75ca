/* Which class a text is of: a classifier's scores, and those of naive Bayes beside them. */
#pragma once
#include "examples.h"
#include "loader.h"
#include "model.h"
#include <stdio.h>

/* Of the kinds of the model's labels, each the sum of its classes. */
typedef struct ClassScore {
    int64_t n, n_kinds; /* texts */
    int64_t *confusion; /* (n_kinds, n_kinds): texts of the row's kind, taken for the column's */
    double loss;        /* sum over the texts, nats */
    int64_t n_cut;      /* texts that are longer than the context */
} ClassScore;

/* Probabilities (n, kinds) of `n` texts from number `first` on, n <= m->use.B, the model's T its
 * context, its labels known. P(c) of a class is what the model says behind a text's last token; of
 * a feed-forward model, of whose n windows x each token ends one, and each token is in T,
 *   P(c) ~ s(c) product over x of (P(c|x) / s(c))^(1/T)
 * which is naive Bayes's rule with windows for words; s(c) are the labels' shares. A kind's
 * probability is the sum of its classes'.
 * Returns the texts' loss, summed. Like evaluate_split it overwrites the step's parameters. */
double classify_texts(Model *m, const Tokens *texts, int64_t first, int64_t n,
                      double *probabilities);
/* All texts, or batches number `part`, part + parts ... of them; the likeliest kind counts, the
 * first of several. classify_free frees. */
void classify_split(Model *m, const Tokens *texts, int64_t part, int64_t parts, ClassScore *score);
/* Multinomial naive Bayes over tokens, learnt from `train`: the kind k of largest
 * log P(k) + sum over the text's tokens of log (count(token, k) + 1) / (count(k) + tokens). */
void classify_bayes(const Tokens *train, const Tokens *texts, const Labels *labels,
                    ClassScore *score);

/* Counts each class's share of the tokens that are learnt from. */
void classify_shares(Labels *labels, const Tokens *train);

double classify_accuracy(const ClassScore *s);
/* 2 right / (2 right + wrongly taken for it + missed); 0 of a kind that neither occurs nor is
 * given. */
double classify_f1(const ClassScore *s, int64_t kind);
double classify_macro_f1(const ClassScore *s); /* mean over the kinds */
/* `bayes` may be NULL. */
void classify_print(const ClassScore *s, const ClassScore *bayes, const Labels *labels, bool json,
                    FILE *out);
void classify_free(ClassScore *s);
