/* Which class a text is of: a classifier's scores, and those of naive Bayes beside them. */
#pragma once
#include "examples.h"
#include "loader.h"
#include "model.h"
#include <stdio.h>

typedef struct ClassScore {
    int64_t n, n_classes; /* texts */
    int64_t *confusion;   /* (n_classes, n_classes): texts of the row's class, taken for the
                             column's */
    double loss;          /* sum over the texts, nats */
    int64_t n_cut;        /* texts that are longer than the context */
} ClassScore;

/* Probabilities (n, classes) of `n` texts from number `first` on, n <= m->use.B, the model's T its
 * context: what the model says behind a text's last token; of a feed-forward model, of whose n
 * windows x each token of the text ends one, and each token is in T,
 *   P(c) ~ s(c) product over x of (P(c|x) / s(c))^(1/T)
 * which is naive Bayes's rule with windows for words; s(c) are the labels' shares.
 * Returns the texts' loss, summed. Like evaluate_split it overwrites the step's parameters. */
double classify_texts(Model *m, const Tokens *texts, int64_t first, int64_t n,
                      double *probabilities);
/* All texts, or batches number `part`, part + parts ... of them; the likeliest class counts, the
 * first of several. classify_free frees. */
void classify_split(Model *m, const Tokens *texts, int64_t part, int64_t parts, ClassScore *score);
/* Multinomial naive Bayes over tokens, learnt from `train`: the class of largest
 * log P(c) + sum over the text's tokens of log (count(token, c) + 1) / (count(c) + tokens). */
void classify_bayes(const Tokens *train, const Tokens *texts, int64_t n_classes,
                    ClassScore *score);

/* Counts each class's share of the tokens that are learnt from. */
void classify_shares(Labels *labels, const Tokens *train);

double classify_accuracy(const ClassScore *s);
/* 2 right / (2 right + wrongly taken for it + missed); 0 of a class that neither occurs nor is
 * given. */
double classify_f1(const ClassScore *s, int64_t class);
double classify_macro_f1(const ClassScore *s); /* mean over the classes */
/* `bayes` may be NULL. */
void classify_print(const ClassScore *s, const ClassScore *bayes, const Labels *labels, bool json,
                    FILE *out);
void classify_free(ClassScore *s);
